"""The command line: the same functions, printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from models import TRIOS_VARIABLE, Prompt, Request, Sampling
from playground.cli import long_commands, progress, render
from playground.cli.answer_blocks import show_answers
from playground.cli.main import main
from playground.comparison.compare import begin, follow

ROOT = Path(__file__).parents[3]


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "playground", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", ""], "The instruction is empty"),
        (["compare", "x" * 20_001], "20,001 characters"),
        (["compare", "x", "--temperature", "-1"], "temperature is -1.0"),
        (["compare", "x", "--temperature", "nan"], "temperature is nan"),
        (["compare", "x", "--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["compare", "x", "--max-new-tokens", "1000000000"], "max_new_tokens is 1000000000"),
        (["compare", "x", "--top-p", "2"], "top_p is 2.0"),
        (["compare", "x", "--example", "a -> b"], "not of the form"),
        (["compare", "x", "--form", "few-shot"], "at least one demonstration"),
        (["compare", "x", "--form", "zero-shot", "--instruction", "y"], "holds no instruction"),
        (["compare", "x", "--trio", "nope"], "There is no trio 'nope'"),
        (["prompt", "x", "--trio", "nope"], "There is no trio 'nope'"),
        (["prompt", "x", "--max-new-tokens", "-5"], "max_new_tokens is -5"),
        (["tune", "nope", "--data", "x", "--out", "y"], "There is no recipe 'nope'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_1(capsys, arguments, says) -> None:
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "--instruction", "Say it."], "--instruction is of a set of one's own."),
        (["evaluate", "--input-column", "input"], "--input-column is of a set of one's own."),
        (["evaluate", "--label-column", "label"], "--label-column is of a set of one's own."),
        (["evaluate", "--labels", "a,b"], "--labels is of a set of one's own. Name it by --set."),
        (["evaluate", "--data", "x", "--score", "text"], "--score is of a set of one's own."),
        (["evaluate", "--set", "x.csv", "--data", "y"], "--data is of public sets"),
        (["evaluate", "--tasks", ""], "There is nothing to ask"),
        (["evaluate", "--tasks", "plural", "--out", "nowhere/r.json"], "r.json: cannot be written"),
        (["evaluate", "--tasks", "plural", "--out", "tests"], "tests: cannot be written: it is a"),
        (["measure", "instructions", "--limit", "3"], "--limit is not for instructions"),
        (["measure", "instructions", "--data", "x"], "--data is not for instructions"),
    ],
)
def test_flags_that_cannot_apply_are_refused_before_anything_loads(
    capsys, monkeypatch, arguments, says
) -> None:
    monkeypatch.setattr(long_commands, "opened", lambda trio: pytest.fail("It loads."))
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1


def test_trios_are_listed(capsys) -> None:
    assert main(["trios"]) == 0
    assert "gemma-270m" in capsys.readouterr().out


def test_the_blocks_are_labelled_and_plain_in_a_pipe(fake, tmp_path) -> None:
    with (tmp_path / "out").open("w") as out:
        request = Request(Prompt("x"), Sampling(3))
        states = follow(begin(fake, request), fake.stream(request))
        show_answers(fake.trio, states, Console(file=out, width=80))
    text = (tmp_path / "out").read_text()
    assert [line for line in text.splitlines() if line.startswith("──")] == [
        "── base · Gemma 3 270M",
        "── task · clinc-intents",
        "── instruct · instruct",
    ]
    assert ", and I'll tell" in text
    assert "\x1b" not in text


def test_an_answer_cannot_command_the_terminal() -> None:
    assert render.printable("a\x1b[2Jb\x07\n\tc\x9b") == "a\\x1b[2Jb\\x07\n\tc\\x9b"


@pytest.mark.trio
def test_prompt_shows_what_each_would_be_sent() -> None:
    done = run("prompt", "Tell me a joke", "--json")
    sent = json.loads(done.stdout)
    assert {role: record["sent"] for role, record in sent.items()} == {
        "base": "<bos>Tell me a joke",
        "task": "<bos>Tell me a joke\n",
        "instruct": "<bos>### Instruction:\nTell me a joke\n\n### Response:\n",
    }
    same = json.loads(run("prompt", "Tell me a joke", "--format", "same", "--json").stdout)
    assert len({tuple(record["ids"]) for record in same.values()}) == 1


@pytest.mark.trio
def test_compare_json_is_one_object() -> None:
    done = run("compare", "Tell me a joke", "--max-new-tokens", "8", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["sampling"] == {
        "max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 0,
    }  # fmt: skip
    assert list(record["answers"]) == ["base", "task", "instruct"]
    assert record["answers"]["task"]["text"] == "small talk / tell joke"
    assert record["answers"]["task"]["stopped"] == "eos"
    assert len({a["weights"]["fingerprint"] for a in record["answers"].values()}) == 3
    assert all(a["first_token_s"] > 0 for a in record["answers"].values())


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = run("prompt", "x", TRIPTYCH_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 1
    assert "cannot be prepared in" in done.stderr
    assert "TRIPTYCH_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_has_a_line_of_progress_now_and_then(capsys, monkeypatch) -> None:
    with progress.Bar() as bar:
        task = bar.add_task("Training", total=None)
        bar.update(task, description="loss [1.0]", total=10, completed=3)
        monkeypatch.setattr(progress, "LOG_S", 0.0)
        bar.update(task, completed=5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Training", "loss [1.0]: 5 of 10"]


def test_paths_hold_spaces_and_a_tilde_that_no_shell_replaced(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # as Windows has it
    folder = tmp_path / "my texts"
    folder.mkdir()
    text = "The river is long. The river is wide. The old mill stands beside the river. "
    (folder / "a text.txt").write_text(text * 40)
    assert main(["make-data", "~/my texts/a text.txt", "--as=text", "--out=~/my texts/rows"]) == 0
    assert (folder / "rows").read_text()
    assert "rows in" in capsys.readouterr().out


def test_trios_of_further_files_are_named_by_a_flag(tiny_file, capsys, monkeypatch) -> None:
    monkeypatch.delenv(TRIOS_VARIABLE, raising=False)
    assert main(["trios", "--trios", str(tiny_file)]) == 0
    listed = capsys.readouterr().out
    assert "gemma-270m: " in listed
    assert "\ntiny: " in listed
    assert main(["prompt", "To boil an egg", "--trio", "tiny", "--trios", str(tiny_file)]) == 0
    assert TRIOS_VARIABLE not in os.environ
    assert main(["prompt", "To boil an egg", "--trio", "tiny"]) == 1
    missing = str(tiny_file.with_name("none.toml"))
    assert main(["prompt", "x", "--trios", str(tiny_file), "--trios", missing]) == 1
    assert "There is no trio file" in capsys.readouterr().err
