"""Terminals and pipes that are not UTF-8: no traceback, and JSON stays JSON."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
from scripted import SCRIPT

from models.backends.fake import FakeBackend
from playground.cli import prompt_commands
from playground.cli.main import main

ANSWER = [" 😀", " naïve", " 正面"]


@pytest.fixture(params=["cp1252", "gbk", "ascii", "utf-8"])
def printed(request, monkeypatch):
    """Run a command in a terminal of some encoding: its exit status, and what it printed."""
    monkeypatch.setattr(
        prompt_commands, "opened", lambda trio: FakeBackend(trio, {**SCRIPT, "base": ANSWER})
    )

    def run(*arguments) -> tuple[int, str, str]:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=request.param) for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
        for stream in (out, err):
            stream.flush()
        return status, *(text.buffer.getvalue().decode(request.param) for text in (out, err))

    return run


@pytest.mark.parametrize("command", ["compare", "grid"])
def test_answers_are_printed_with_escapes_for_what_the_terminal_lacks(printed, command) -> None:
    status, out, _ = printed(command, "Größe 正?")
    assert status == 0
    assert " 😀" in out or "\\U0001f600" in out


def test_json_can_be_parsed_in_any_encoding(printed) -> None:
    status, out, _ = printed("compare", "Größe 正?", "--json")
    assert status == 0
    assert json.loads(out)["answers"]["base"]["text"] == " 😀 naïve 正面"


def test_an_error_is_one_line_in_any_encoding(printed) -> None:
    status, out, err = printed("compare", "正", "--trio", "😀")
    assert (status, out) == (1, "")
    assert err.startswith("There is no trio '")
    assert err.count("\n") == 1


def test_half_a_character_on_the_command_line_is_refused(capsys) -> None:
    for arguments in (["compare", "x\udcff"], ["compare", "x", "--example", "\ud83d => y"]):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert "has half a character" in error
        assert error.count("\n") == 1
