"""What the model cards report, over data sets of a few lines."""

from __future__ import annotations

import gzip
import json
import tomllib
from contextlib import closing

import pytest
import regex
from scripted import SCRIPT

from models import Progress, PromptError, find_trio
from models.backends.fake import FakeBackend
from playground.cli import long_commands
from playground.cli.main import main
from playground.experiments import model_cards


def on_progress(progress: Progress) -> None:
    assert 0 < progress.done <= 1 <= progress.total


@pytest.fixture
def data(tmp_path):
    """A folder laid out as the public sets are."""
    for name in ("task/clinc150", "instruct", "med"):
        (tmp_path / name).mkdir(parents=True)
    clinc = tmp_path / "task" / "clinc150"
    (clinc / "domains.json").write_text('{"small_talk": ["tell_joke"], "home": ["order"]}')
    test = [["joke please", "tell_joke"], ["order it", "order"], ["a joke", "tell_joke"]]
    (clinc / "data_full.json").write_text(json.dumps({"test": test}))
    record = {"instruction": "Write a poem.", "instances": [{"input": "The sea", "output": "x"}]}
    lines = f"{json.dumps(record)}\n" * 3
    (tmp_path / "instruct" / "user_oriented_instructions_252.jsonl").write_text(lines)
    with gzip.open(tmp_path / "med" / "medquad_6nih_sites.jsonl.gz", "wt") as out:
        out.write(f"{json.dumps({'answer': 'A word. ' * 60})}\n" * 4)
    return tmp_path


def test_intents_are_exact_or_of_the_right_domain(fake, data) -> None:
    result = model_cards.intents(fake, data, 3, on_progress)
    assert result["exact"]["value"] == pytest.approx(2 / 3)
    assert result["domain"]["value"] == pytest.approx(2 / 3)
    assert result["ended"]["value"] == 1
    assert [item["answer"] for item in result["items"]] == ["small talk / tell joke"] * 3


def test_the_task_tuned_variant_keeps_its_format_whatever_is_asked(fake, data) -> None:
    result = model_cards.off_task_format(fake, data, 2, on_progress)
    assert (result["n"], result["in its format"]["value"]) == (2, 1.0)


def test_open_answers_are_judged_by_their_end_and_their_length(data) -> None:
    script = {**SCRIPT, "instruct": [" round", " and", " round"] * 60}
    with closing(FakeBackend(find_trio(), script)) as backend:
        result = model_cards.open_instructions(backend, data, 2, on_progress)
    assert (result["n"], result["ended"]["value"]) == (2, 0.0)
    assert (result["median words"], result["median reference words"]) == (128, 1)
    with closing(FakeBackend(find_trio(), SCRIPT)) as backend:
        task = model_cards.open_instructions(backend, data, 2, on_progress, "task")
    assert (task["ended"]["value"], task["looped"]["value"]) == (1.0, 0.0)
    assert task["items"][0]["answer"] == "small talk / tell joke"


def test_forgetting_is_the_loss_of_plain_text_beside_the_bases(fake, data) -> None:
    result = model_cards.plain_text_loss(fake, data, 4, on_progress)
    assert result["n"] == 4
    assert result["instruct"]["nats_per_token"] == 1.0
    assert result["instruct"]["more_than_base"] == {"value": 0.0, "low": 0.0, "high": 0.0}


ITEMS = tomllib.loads(model_cards.INSTRUCTIONS.read_text())["item"]


@pytest.mark.parametrize(
    "text",
    [
        "A: " + "Red, Blue, Green and White, " * 60,
        "a\n\n" * 200,
        "and " * 300,
        ", and" * 300,
        "a b " * 200,
        "ring ring " * 200 + "x",
        "not " * 200,
    ],
)
def test_no_pattern_tries_a_looping_answer_for_ever(text) -> None:
    for item in ITEMS:
        for pattern in (item["format"], item.get("only_right", "")):
            regex.fullmatch(pattern, text.strip(), regex.S | regex.I, timeout=10)


@pytest.mark.parametrize(
    ("answer", "is_list"),
    [
        ("1. Red\n2. Blue\n3. Green", True),
        ("red, blue and green", True),
        ("Red, blue, and green.", True),
        ("Sand, land and hand", True),
        ("red, blue", False),
        ("red and blue", False),
        ("Red, blue, green,", False),
    ],
)
def test_a_list_has_as_many_parts_as_were_asked_for(answer, is_list) -> None:
    three = next(item for item in ITEMS if item["instruction"] == "Name three colours.")
    assert bool(regex.fullmatch(three["format"], answer, regex.S | regex.I)) is is_list


def test_instructions_are_judged_by_their_end_their_format_and_their_truth(fake) -> None:
    result = model_cards.instructions(fake, on_progress)
    assert result["n"] == 100
    assert result["ended"]["value"] == 1
    assert result["right"]["value"] < 0.5


@pytest.mark.parametrize(
    ("ending", "answer", "is_right"),
    [
        ("even or odd?", "14 is even, not odd.", True),
        ("even or odd?", "14 is not even.", False),
        ("even or odd?", "Odd.", False),
        ("animal or a plant?", "An oak is a plant, not an animal.", True),
        ("pear, hammer, plum?", "Hammer; apple, pear and plum are fruits.", True),
        ("pear, hammer, plum?", "Apple, pear, hammer, plum.", False),
        ("spam? Answer yes or no.", "Yes and no.", False),
        ("spam? Answer yes or no.", "Yes.", True),
    ],
)
def test_the_right_answer_is_told_from_the_wrong_one(ending, answer, is_right) -> None:
    item = next(item for item in ITEMS if item["instruction"].endswith(ending))
    assert model_cards._matches(item["only_right"], answer) is is_right


def test_where_a_wrong_answer_has_the_format_a_pattern_says_which_is_right() -> None:
    labels = {
        "positive",
        "negative",
        "right",
        "wrong",
        "animal",
        "plant",
        "yes",
        "no",
        "odd",
        "even",
    }
    labels |= {"question", "statement", "sport", "music", "cooking", "hammer", "pear"}
    for item in ITEMS:
        accepted = {label for label in labels if model_cards._matches(item["format"], label)}
        pattern = item.get("only_right", item["format"])
        assert sum(model_cards._matches(pattern, label) for label in accepted) <= 1 or (
            item["kind"] in ("creative", "rewriting")  # any word, or any sentence
        )


@pytest.mark.parametrize(
    "what", [model_cards.intents, model_cards.off_task_format, model_cards.plain_text_loss]
)
def test_progress_ends_at_the_last_item(fake, data, what) -> None:
    seen: list[Progress] = []
    what(fake, data, 3, seen.append)
    assert [progress.done for progress in seen] == [1 / 3, 2 / 3, 1]
    assert {progress.total for progress in seen} == {3}


@pytest.mark.parametrize(
    "what", [model_cards.intents, model_cards.off_task_format, model_cards.plain_text_loss]
)
def test_a_limit_below_one_is_refused(fake, data, what) -> None:
    for limit in (0, -2):
        with pytest.raises(PromptError, match=rf"The limit is {limit}; it must be"):
            what(fake, data, limit, on_progress)


def test_a_file_without_prompts_is_said_so(fake, data) -> None:
    path = data / "instruct" / "user_oriented_instructions_252.jsonl"
    path.write_text("")
    with pytest.raises(PromptError, match=r"252\.jsonl: holds no prompt"):
        model_cards.off_task_format(fake, data, 2, on_progress)


def test_the_command_asks_300_where_no_limit_is_given(data, capsys, monkeypatch) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: FakeBackend(trio, SCRIPT))
    assert main(["measure", "foreign", "--data", str(data)]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3
    assert main(["measure", "intents", "--data", str(data)]) == 1
    assert "The limit is 300; it must be from 1 to 3." in capsys.readouterr().err
    assert main(["measure", "instructions"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 100


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (model_cards.intents, "CLINC150 is not in"),
        (model_cards.off_task_format, "Their home is github.com/yizhongw/self-instruct"),
        (model_cards.plain_text_loss, "Its home is github.com/abachaa/MedQuAD"),
    ],
)
def test_data_that_is_not_there_is_answered_with_its_home(fake, tmp_path, what, says) -> None:
    with pytest.raises(PromptError, match=says):
        what(fake, tmp_path, 1, on_progress)


@pytest.mark.parametrize("what", ["intents", "open", "foreign", "forgetting"])
def test_what_cannot_be_measured_is_said_before_the_trio_loads(
    data, capsys, monkeypatch, what
) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: pytest.fail("It loads."))
    for arguments, says in (
        (["--data", str(data), "--limit", "0"], "The limit is 0; it must be"),
        (["--data", str(data / "none")], "home is github.com/"),
    ):
        assert main(["measure", what, *arguments]) == 1
        printed = capsys.readouterr().err
        assert says in printed
        assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "file"),
    [
        ("intents", "task/clinc150/data_full.json"),
        ("foreign", "instruct/user_oriented_instructions_252.jsonl"),
        ("forgetting", "med/medquad_6nih_sites.jsonl.gz"),
    ],
)
def test_a_damaged_set_is_one_line(data, what, file) -> None:
    path = data / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PromptError, match="damaged"):
        model_cards.check(what, data, 1)
