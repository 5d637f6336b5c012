"""Raw texts → training rows: what each rule reads off a passage, and what is left out."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from scripted import SCRIPT

from models import PromptError, find_trio
from models.backends.fake import FakeBackend
from playground.cli import long_commands
from playground.cli.main import main
from playground.training_data.passages import MAX_WORDS, Passage, read_passages
from playground.training_data.rules import RULES, GeneratedRow, ask_rows, kept, make_rows

LIGHTHOUSE = (
    "A lighthouse is a tower that shows ships where the coast begins. Its lamp turns all night. "
    "Three things wear it down: salt, wind and birds. Keepers once climbed the stairs each evening "
    "and trimmed the wick by hand."
)
PASSAGE = Passage(LIGHTHOUSE, "Towers by the sea", "sea.md:3")


def rows_by(rule, passage=PASSAGE, seed=0) -> list[GeneratedRow]:
    word_counts = Counter(LIGHTHOUSE.lower().split())
    triples = RULES[rule](passage, word_counts, random.Random(seed))
    return [GeneratedRow(*texts, passage.source, rule) for texts in triples]


def test_a_heading_is_the_title_and_a_passage_without_one_has_none() -> None:
    assert [(row.input, row.output) for row in rows_by("title")] == [
        (LIGHTHOUSE, "Towers by the sea")
    ]
    assert rows_by("title", Passage(LIGHTHOUSE, "", "x:1")) == []


def test_a_definition_answers_what_it_defines() -> None:
    (row,) = rows_by("question")
    assert "lighthouse" in row.instruction
    assert row.output == "A lighthouse is a tower that shows ships where the coast begins."
    no = Passage("The doctor will ask if there is a history of it. This is a test.", "", "x:1")
    assert rows_by("question", no) == []


def test_what_follows_a_colon_is_a_list() -> None:
    (row,) = rows_by("list")
    assert "three things wear it down" in row.instruction
    assert row.output == "- salt\n- wind\n- birds"
    bullets = Passage("Watch for these: - Fever. - A rash, red. - Chills.", "", "x:1")
    assert rows_by("list", bullets)[0].output == "- Fever\n- A rash, red\n- Chills"


def test_the_first_sentence_sums_up_the_others() -> None:
    (row,) = rows_by("summary")
    assert row.output.startswith("A lighthouse is")
    assert row.output not in row.input


def test_a_gap_is_filled_by_the_word_that_was_there() -> None:
    for seed in range(8):
        for row in rows_by("cloze", seed=seed):
            assert row.input.count("____") == 1
            assert row.output in LIGHTHOUSE
            assert row.output not in row.input.split("\n")[-1]


def test_two_sentences_are_in_order_or_not() -> None:
    answers = Counter(row.output for seed in range(200) for row in rows_by("order", seed=seed))
    assert set(answers) == {"yes", "no"}
    assert 40 < sum(answers.values()) < 100  # of a third of 200; 4 standard deviations
    for seed in range(200):
        for row in rows_by("order", seed=seed):
            assert (row.input in LIGHTHOUSE) == (row.output == "yes")


@pytest.fixture
def sea(tmp_path):
    path = tmp_path / "sea.md"
    path.write_text(f"# Towers by the sea\n\n{LIGHTHOUSE}\n\nShort.\n\n## Empty\n")
    return path


def test_passages_carry_their_heading_and_where_they_stand(sea, tmp_path) -> None:
    assert read_passages([sea]) == [PASSAGE]
    lines = tmp_path / "sea.jsonl"
    lines.write_text("\n" + json.dumps({"text": LIGHTHOUSE}) + "\n")
    assert read_passages([lines]) == [Passage(LIGHTHOUSE, "", "sea.jsonl:2")]


def test_a_long_paragraph_is_cut_between_sentences(tmp_path) -> None:
    path = tmp_path / "long.txt"
    path.write_text(f"{LIGHTHOUSE} " * 20)
    passages = read_passages([path])
    assert len(passages) > 3
    assert max(len(passage.text.split()) for passage in passages) <= MAX_WORDS
    assert {passage.text[-1] for passage in passages} == {"."}


def test_the_same_passage_becomes_rows_of_three_kinds() -> None:
    (text,), _ = make_rows([PASSAGE], "text")
    assert text.record("text") == {"text": LIGHTHOUSE, "source": "sea.md:3", "method": "passage"}
    (task,), _ = make_rows([PASSAGE], "task")
    assert set(task.record("task")) == {"input", "output", "source", "method"}
    rows, _ = make_rows([PASSAGE], "instruction")
    assert {row.method for row in rows} >= {"title", "question", "list", "summary"}
    assert all(row.source == "sea.md:3" for row in rows)
    assert rows == make_rows([PASSAGE], "instruction")[0]


def test_rows_are_left_out_for_a_reason_and_counted() -> None:
    row = GeneratedRow("Say it.", LIGHTHOUSE, "salt, wind and birds", "sea.md:3", "list")
    strange = GeneratedRow("Say it.", LIGHTHOUSE, "purple elephants dance", "sea.md:3", "list")
    long = GeneratedRow("Say it.", LIGHTHOUSE, "salt " * 300, "sea.md:3", "list")
    good, dropped = kept((PASSAGE, row) for row in (row, row, strange, long))
    assert good == [row]
    assert dropped == {
        "asks what another asks": 1,
        "not in its passage": 1,
        "empty or too long": 1,
    }


def test_a_variant_can_ask_and_answer_and_what_is_not_in_the_passage_goes() -> None:
    script = {**SCRIPT, "instruct": ["What", " turns", " all", " night", "?"]}
    (row,), dropped = ask_rows(FakeBackend(find_trio(), script), [PASSAGE])
    assert (row.instruction, row.output) == ("What turns all night?", "What turns all night?")
    assert row.method == "asked instruct"
    assert dropped == {}
    none, dropped = ask_rows(FakeBackend(find_trio(), SCRIPT), [PASSAGE, PASSAGE], "base")
    assert none == []
    assert dropped == {"no question": 2}
    none, dropped = ask_rows(FakeBackend(find_trio(), SCRIPT), [PASSAGE])
    assert dropped == {"not in its passage": 1}


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(PromptError, match="cannot be read"):
        read_passages([tmp_path / "none.txt"])
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": 3}\n')
    with pytest.raises(PromptError, match=r'x\.jsonl: line 1: is no object with a "text"'):
        read_passages([path])
    path.write_text("")
    with pytest.raises(PromptError, match="no passage of 25 words"):
        read_passages([path])
    with pytest.raises(PromptError, match=r"There is no rule 'poem'\. There are: title"):
        make_rows([PASSAGE], "instruction", ["poem"])
    with pytest.raises(PromptError, match="made by one rule"):
        make_rows([PASSAGE], "task", ["title", "list"])


def test_the_command_writes_json_lines_and_says_what_it_left_out(sea, tmp_path, capsys) -> None:
    out = tmp_path / "rows.jsonl"
    assert main(["make-data", str(sea), str(sea), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {"instruction", "input", "output", "source", "method"} == set(rows[0])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{len(rows)} rows in {out}: ")
    assert "Left out: " in printed
    before = out.read_text()
    assert main(["make-data", str(sea), "--out", str(tmp_path / "no" / "x.jsonl")]) == 1
    assert out.read_text() == before


def test_without_a_row_nothing_is_written_and_the_reason_is_said(
    sea, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: FakeBackend(trio, SCRIPT))
    out, plain = tmp_path / "rows.jsonl", tmp_path / "plain.txt"
    plain.write_text("Rain fell on the old roof all night long. " * 4)
    out.write_text("what was there\n")
    assert main(["make-data", str(plain), "--as", "task", "--out", str(out)]) == 1
    assert main(["make-data", str(sea), "--via", "base", "--out", str(out)]) == 1
    assert main(["make-data", str(sea), "--via", "base", "--out", str(tmp_path / "new")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second, third = printed.err.splitlines()
    assert first.startswith("There is no row to write. No rule finds anything in these texts.")
    assert second == third
    assert second.startswith("There is no row to write. Left out: 1 no question.")
    assert out.read_text() == "what was there\n"
    assert not (tmp_path / "new").exists()


def test_a_variant_makes_instruction_rows_alone(sea, tmp_path, capsys) -> None:
    arguments = ["make-data", str(sea), "--via", "instruct", "--out", str(tmp_path / "x")]
    assert main([*arguments, "--as", "task"]) == 1
    assert main([*arguments, "--rules", "title"]) == 1
    assert capsys.readouterr().err.count("--via makes instruction rows") == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--via", "instruct", "--seed", "3"], "--seed is of rules, and --via asks by none"),
        (["--trio", "gemma-270m"], "--trio is for --via"),
        (["--as", "text", "--rules", "title"], "--rules is of rules, and --as text has none"),
        (["--as", "text", "--seed", "3"], "--seed is of rules, and --as text has none"),
        (["--via", "instruct", "--out", "none/x.jsonl"], "none/x.jsonl: cannot be written"),
        (["--via", "instruct", "--out", "."], ".: cannot be written: it is a folder"),
    ],
)
def test_flags_that_cannot_apply_are_refused_before_anything_loads(
    sea, tmp_path, capsys, monkeypatch, flags, says
) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: pytest.fail("It loads."))
    monkeypatch.chdir(tmp_path)
    assert main(["make-data", str(sea), "--out", "x.jsonl", *flags]) == 1
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sea.md"]
