"""What the Evaluate tab does with files, and with what goes wrong; no browser."""

from __future__ import annotations

import json
import re
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from models import ROLES, PromptError
from playground.evaluation.run import evaluate
from playground.evaluation.tabular import columns_of
from playground.evaluation.task import shipped_tasks
from playground.ui.tabs.evaluate import events
from playground.ui.tabs.evaluate.events import EvaluateFields, fields_of_saved, run_evaluation
from playground.ui.work import Run

SETTINGS = {"variants": list(ROLES), "wordings": 1, "shots": 4, "max_new_tokens": 32}
DOMAIN = {"domain": shipped_tasks()["domain"].digest}
RECORD = {"tasks": DOMAIN, "forms": ["zero-shot"], "limit": 8, **SETTINGS}


def saved(tmp_path, record) -> str:
    path = tmp_path / "saved.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return str(path)


def test_results_choose_what_they_are_of(tmp_path) -> None:
    assert fields_of_saved(saved(tmp_path, RECORD)) == {
        "tasks": ["domain"],
        "file": None,
        "forms": ["zero-shot"],
        "limit": 8,
    }
    own = {**RECORD, "tasks": {"domain": "another"}, "limit": 200}
    assert fields_of_saved(saved(tmp_path, own)) == {"forms": ["zero-shot"], "limit": 200}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ("", "is no result of an evaluation"),
        ("{}", "is no result of an evaluation"),
        ("[]", "is no result of an evaluation"),
        ("[" * 100_000, "is no result of an evaluation"),
        ({**RECORD, "forms": ["aloud"]}, r"forms is \['aloud'\]"),
        ({**RECORD, "forms": [["a"], 1]}, "forms is"),
        ({**RECORD, "limit": 0}, "limit is 0; the page asks 4 to 40 items"),
        ({**RECORD, "limit": 8.5}, "limit is 8.5"),
        (
            {**RECORD, "tasks": {"mine": "1"}, "limit": 2000},
            "limit is 2000; the page asks 4 to 200",
        ),
        ({**RECORD, "tasks": [[]]}, "is no result of an evaluation"),
        ({**RECORD, "wordings": 3}, "wordings is 3; the page asks 1. Go on with it by"),
        ({**RECORD, "variants": ["base"]}, r"variants is \['base'\]"),
    ],
)
def test_results_that_the_page_cannot_go_on_from_are_one_line(tmp_path, record, says) -> None:
    with pytest.raises(PromptError, match=rf"^saved\.json: {says}"):
        fields_of_saved(saved(tmp_path, record))


def test_columns_are_those_of_the_first_line_and_rows_are_counted(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\nnice,good\n\nbad \xe9,bad\n")
    assert columns_of(path) == (["text", "label"], 2)
    path.write_bytes(b"t\xe9xt,label\n")
    with pytest.raises(PromptError, match=r"mine\.csv: has no columns"):
        columns_of(path)
    lines = tmp_path / "mine.jsonl"
    lines.write_text('{"text": "nice", "label": "good"}\n' * 3)
    assert columns_of(lines) == (["text", "label"], 3)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("mine.csv", b"", "has no columns: its first line is empty"),
        ("mine.csv", b"text\nnice\n", "has one column, 'text'"),
        ("mine.csv", "text,label\n".encode("utf-16"), "has no columns: it is UTF-16"),
        ("mine.csv", b"t\xe9xt,label\n", r"has no columns: line 1 is no UTF-8 \(byte 0xe9\)"),
        ("mine.csv", b'"a\nb",label\nx,y\n', "the name of column 1 has two lines"),
        ("mine.csv", b"text,label,text\n", "columns 1 and 3 are both named 'text'"),
        ("mine.jsonl", b"", "has no columns: line 1 is empty"),
        ("mine.jsonl", b"\n{\n", "has no columns: line 2 is no JSON"),
        ("mine.jsonl", b"3\n", "has no columns: line 1 is no object"),
        ("mine.jsonl", b'{"text": "x"}\n', "has one column, 'text'"),
    ],
)
def test_a_file_without_two_columns_is_one_line(tmp_path, name, data, says) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PromptError, match=rf"^{name}: {says}") as caught:
        columns_of(path)
    assert "\n" not in str(caught.value)


def test_a_column_without_a_name_is_not_offered(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(",text,label\n0,nice,good\n")
    assert columns_of(path) == (["text", "label"], 1)


def fields(earlier: str | None = None) -> EvaluateFields:
    return EvaluateFields(["sentiment", "plural"], ["zero-shot"], 4, None, None, None, "", earlier)


def test_a_failure_keeps_what_was_finished_before_it(fake, monkeypatch) -> None:
    def failing(*args):
        for state in evaluate(*args):
            if state.done > 4:
                raise PromptError("plural, item 1: is too long.")
            yield state

    monkeypatch.setattr(events, "evaluate", failing)
    updates = []
    with suppress(PromptError):
        for update in run_evaluation(fields())(fake, Run()):
            updates.append(update)
        pytest.fail("the failure is not told")
    record = json.loads(updates[-1]["results"]["record"])
    assert [reply["task"] for reply in record["replies"]] == ["sentiment"] * 4 * 3


def test_a_run_says_that_it_began_before_its_first_answers_come(fake, monkeypatch) -> None:
    calls = []

    def noting(*args):
        calls.append(args)
        yield from evaluate(*args)

    monkeypatch.setattr(events, "evaluate", noting)
    with closing(run_evaluation(fields())(fake, Run())) as updates:
        assert next(updates)["status"]["kind"] == "busy"
        assert not calls


def test_what_earlier_results_hold_is_counted_apart(fake, tmp_path) -> None:
    *_, last = run_evaluation(fields())(fake, Run())
    record = json.loads(last["results"]["record"])
    half = [reply for reply in record["replies"] if reply["task"] == "sentiment"]
    path = saved(tmp_path, {**record, "replies": half})
    before = Path(path).read_bytes()
    *_, again = run_evaluation(fields(path))(fake, Run())
    assert again["status"]["text"].startswith("8 prompts")
    assert again["status"]["text"].endswith("Earlier results held 4 of them.")
    assert json.loads(again["results"]["record"]) == record
    assert Path(path).read_bytes() == before  # another run may be of the same upload


def test_an_empty_limit_is_named() -> None:
    with pytest.raises(PromptError, match=r"^Items of each task is empty"):
        replace(fields(), limit=None).plan()


def test_an_evaluation_ends_with_its_deadline_and_shows_what_is_finished(fake) -> None:
    run = Run()
    updates = run_evaluation(fields())(fake, run)
    while "prompts, about" not in next(updates)["status"]["text"]:
        pass
    run.until_s = 0.0
    *_, last = updates
    assert re.match(r"Its time is over after \d of 8 prompts; finished", last["status"]["text"])


@pytest.mark.parametrize(("limit", "most"), [(3, 40), (41, 40), (1e9, 40)])
def test_no_more_items_are_asked_than_the_slider_has(limit, most) -> None:
    with pytest.raises(PromptError, match=f"Items of each task are 4 to {most} here"):
        run_evaluation(replace(fields(), limit=limit))
