"""Sets of one's own: what is read, and how what cannot be is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import Demonstration, PromptError
from playground.cli import long_commands
from playground.cli.main import main
from playground.evaluation import custom_dataset
from playground.evaluation.custom_dataset import read_custom_dataset
from playground.evaluation.tabular import columns_of

ROWS = [("good", "positive"), ("bad", "negative"), ("fine", "positive"), ("poor", "negative")]


def csv_text(rows=ROWS) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


def read(tmp_path, text, name="mine.csv", **settings):
    path = tmp_path / name
    path.write_text(text)
    return read_custom_dataset(path, "text", "label", **{"demonstrations": 1, **settings})


def test_csv_and_json_lines_give_the_same_task(tmp_path) -> None:
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)
    task, _ = read(tmp_path, csv_text())
    from_json, _ = read(tmp_path, lines, "mine.jsonl")
    assert task.items == from_json.items
    assert task.labels == ("positive", "negative")
    assert task.demonstrations == (Demonstration("good", "positive"),)
    assert [item.input for item in task.items] == ["bad", "fine", "poor"]
    assert task.instructions == ("Answer with one of: positive, negative.",)
    assert read(tmp_path, csv_text(), demonstrations=2)[1] == []


def test_the_command_reads_input_and_label_where_no_column_is_named(
    fake, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: fake)
    path = tmp_path / "mine.csv"
    path.write_text(csv_text().replace("text,", "input,"))
    arguments = ["evaluate", "--set", str(path), "--shots", "1", "--forms", "instruction", "--json"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["tasks"]) == ["mine"]
    assert {row["scoring"] for row in record["rows"]} >= {"likelihood", "generation"}
    assert main([*arguments, "--label-column", "gold"]) == 1
    assert "gold" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["None", "none", "N/A", "NA", "n/a"])
def test_a_label_that_may_stand_for_a_missing_one_is_said(tmp_path, label) -> None:
    text = csv_text([*ROWS, ("odd", label), ("even", label)])
    task, notes = read(tmp_path, text, demonstrations=2)
    assert task.labels == ("positive", "negative", label)
    assert notes == [
        f"mine.csv: the label {label!r} of 2 rows may stand for a missing one; take them out if so."
    ]
    assert read(tmp_path, text, demonstrations=2, labels=task.labels)[1] == []


@pytest.mark.parametrize("label", ["null", "NULL", "NaN", "<NA>", "#N/A", "#REF!", "#DIV/0!"])
def test_a_label_that_stands_for_a_missing_one_is_refused(tmp_path, label) -> None:
    with pytest.raises(PromptError, match=f"line 6: label is '{label}', which stands for a miss"):
        read(tmp_path, csv_text([*ROWS, ("odd", label)]))


def test_numbers_that_are_one_label_are_told(tmp_path) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 1.0}, {"text": "c", "label": 0}]
    lines = "\n".join(map(json.dumps, rows))
    with pytest.raises(
        PromptError, match=r"labels '1' and '1\.0' are one to a reader \(lines 1 and 2\)"
    ):
        read(tmp_path, lines, "mine.jsonl")


def test_a_label_with_a_line_break_is_refused_unless_it_is_text(tmp_path) -> None:
    text = csv_text([*ROWS, ("odd", '"two\nlines"')])
    with pytest.raises(PromptError, match=r"line 6: the label 'two\\nlines' has a line break"):
        read(tmp_path, text)
    assert read(tmp_path, text, score="text")[0].items[-1].gold == "two\nlines"


def test_a_label_that_no_row_has_is_said(tmp_path) -> None:
    task, notes = read(
        tmp_path, csv_text(), labels=("positive", "negative", "mixed"), demonstrations=2
    )
    assert task.labels == ("positive", "negative", "mixed")
    assert notes == ["mine.csv: no row is answered 'mixed'."]


def test_what_lies_beyond_the_limit_is_said_and_not_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(custom_dataset, "MAX_ITEMS", 3)
    task, notes = read(tmp_path, csv_text() + "never,read,this\n", demonstrations=2)
    assert len(task.items) == 1
    assert notes == ["mine.csv: holds more than 3 rows; those were taken."]


def test_texts_need_no_labels(tmp_path) -> None:
    task, _ = read(tmp_path, csv_text(), score="exact", instructions=["Say it."])
    assert (task.labels, task.instructions) == ((), ("Say it.",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no row"),
        ("text,label\n", "holds no row"),
        ("text,gold\nx,y\n", "has no column 'label'. It has: text, gold"),
        (csv_text() + "x,\n", "line 6: label is empty"),
        (csv_text() + " ,y\n", "line 6: text is empty"),
        (csv_text() + "alone\n", "line 6: label is missing; the row has: text"),
        (csv_text() + "a,b,c\n", "line 6: has more fields"),
        (csv_text() + '"broken,y\nz,z\n', "line 6: is no CSV"),
        ("text,label\n" + "x,\n" * 9, "lines 2, 3, 4, 5, 6 and 4 more: label is empty. Mend"),
        (csv_text() + "x,\nx,y\n,y\nx,\n", "lines 6 and 9: label is empty; line 8: text is empty"),
        ("text,label\nx,only\ny,only\n", "there is one label, 'only'"),
        (csv_text([(f"t{n}", f"l{n}") for n in range(101)]), "there are 101 labels"),
        (csv_text(ROWS[:1]), "has 1 row, but demonstrations take 1. Add"),
        (csv_text([("a", "Pos"), ("b", "neg"), ("c", "pos")]), "'Pos' and 'pos' are one"),
    ],
)
def test_rows_that_cannot_be_used_are_named_by_line(tmp_path, text, says) -> None:
    with pytest.raises(PromptError, match=rf"^mine\.csv: .*{says}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: is no JSON"),
        ("[" * 99999, "is no JSON"),
        ('"hi"', "1: is no object"),
        ("3", "line 1: is no object"),
        ('{"text": 1}', "line 1: label is missing; the row has: text"),
        (
            "\n".join(f'{{"text": [{n}]}}' for n in range(9)),
            r"5: text is \[4\], no.*; and 4 lines more",
        ),
        ('[{"text": "x", "label": null}, {"text": "y", "label": null}]', "line 1: label is null"),
    ],
)
def test_json_lines_that_cannot_be_used_are_named(tmp_path, line, says) -> None:
    with pytest.raises(PromptError, match=says):
        read(tmp_path, line + "\n", "mine.jsonl")


def test_a_gold_outside_the_labels_is_refused(tmp_path) -> None:
    with pytest.raises(
        PromptError, match="line 3 is answered 'negative'; the labels are: positive, mixed"
    ):
        read(tmp_path, csv_text(), labels=("positive", "mixed"))


def test_a_file_that_is_no_text_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(PromptError, match="cannot be read"):
        read_custom_dataset(path, "text", "label")
    with pytest.raises(PromptError, match="cannot be read"):
        read_custom_dataset(tmp_path / "none.csv", "text", "label")


def test_a_folder_is_refused_by_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for readers in (
        lambda: read_custom_dataset(Path(), "text", "label"),
        lambda: columns_of(Path()),
    ):
        with pytest.raises(PromptError, match=r"^\.: .*: .*directory"):
            readers()


def test_a_column_without_a_name_is_a_column(tmp_path) -> None:
    numbered = "".join(f"{n},{line}\n" for n, line in enumerate(csv_text().splitlines()[1:]))
    task, _ = read(tmp_path, f",text,label\n{numbered}")
    assert [item.input for item in task.items] == ["bad", "fine", "poor"]


def test_inputs_that_stand_twice_and_one_sided_demonstrations_are_said(tmp_path) -> None:
    _, notes = read(tmp_path, csv_text([*ROWS, ROWS[1]]), demonstrations=1)
    assert notes == [
        "mine.csv: 1 row has the input of another; all are asked.",
        "mine.csv: all demonstrations have one label; mix the rows.",
    ]


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_columns_are_cut_by_what_cuts_the_first_line_into_most(tmp_path, between) -> None:
    task, _ = read(tmp_path, csv_text().replace(",", between).replace("bad", '"b,a;d\t"'))
    assert [item.input for item in task.items] == ["b,a;d", "fine", "poor"]


def test_an_input_that_is_the_label_is_refused(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text\nx\ny\n")
    with pytest.raises(PromptError, match="both the column 'text'"):
        read_custom_dataset(path, "text", "text")
    with pytest.raises(PromptError, match="choose the column"):
        read_custom_dataset(path, "", "text")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text,label,text\nx,y,z\n", "columns 1 and 3 are both named 'text'. Rename one."),
        ("text,,label,\nx,1,y,2\n", "columns 2 and 4 have no name. Rename one."),
    ],
)
def test_columns_of_one_name_are_refused(tmp_path, text, says) -> None:
    with pytest.raises(PromptError, match=says):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (csv_text().encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b"text,label\nna\xefve,good\n", r"line 2 is no UTF-8 \(byte 0xef\); save the file"),
    ],
)
def test_another_encoding_is_named_by_its_line(tmp_path, data, says) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(data)
    with pytest.raises(PromptError, match=rf"^mine\.csv: cannot be read: {says}") as caught:
        read_custom_dataset(path, "text", "label")
    assert "\n" not in str(caught.value)
