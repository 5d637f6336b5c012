"""python -m playground doctor: lines to paste, or JSON; exit 1 on a fault."""

from __future__ import annotations

import json

import pytest

import models
from models import DoctorCheck
from playground.cli.doctor_command import lines_of, summary
from playground.cli.main import main

RIGHT = DoctorCheck("Python", "CPython 3.11")
ODD = DoctorCheck("Memory", "2 GB\x1b[2J available", "note", "End other programs.")
WRONG = DoctorCheck("Port", "7860: in use", "fault", "Choose another --port.")


@pytest.fixture
def seen(monkeypatch):
    """Have the doctor see given checks; return what it was asked."""
    asked: list[object] = []

    def see(*checks: DoctorCheck):
        def run(trio, port, on_progress):
            asked.append((trio.name, port))
            yield from checks

        monkeypatch.setattr(models, "run_doctor", run)
        return asked

    return see


def test_each_line_tells_what_its_value_and_what_to_do() -> None:
    checks = [RIGHT, ODD, WRONG]
    assert [*(line for check in checks for line in lines_of(check)), summary(checks)] == [
        "ok    Python: CPython 3.11",
        "note  Memory: 2 GB\x1b[2J available",
        "      → End other programs.",
        "FAULT Port: 7860: in use",
        "      → Choose another --port.",
        "1 ok, 1 to note, 1 at fault",
    ]


def test_a_fault_exits_with_1(seen, capsys) -> None:
    asked = seen(RIGHT, ODD, WRONG)
    assert main(["doctor", "--port", "7999"]) == 1
    printed = capsys.readouterr()
    assert "FAULT Port: 7860: in use\n" in printed.out
    assert "\x1b" not in printed.out
    assert "1 fault, told above." in printed.err
    assert asked == [("gemma-270m", 7999)]


def test_what_was_seen_before_a_crash_is_printed(monkeypatch, capsys) -> None:
    def run(trio, port, on_progress):
        yield RIGHT
        raise ZeroDivisionError

    monkeypatch.setattr(models, "run_doctor", run)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])
    assert "ok    Python: CPython 3.11" in capsys.readouterr().out


def test_notes_exit_with_0(seen, capsys) -> None:
    seen(RIGHT, ODD)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("1 ok, 1 to note, 0 at fault\n")


def test_json_is_one_object(seen, capsys) -> None:
    seen(RIGHT, WRONG)
    assert main(["doctor", "--json"]) == 1
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert checks[1] == {
        "name": "Port",
        "value": "7860: in use",
        "verdict": "fault",
        "advice": "Choose another --port.",
    }


def test_a_port_is_the_environment_s_and_one_that_is_none_is_refused(
    seen, monkeypatch, capsys
) -> None:
    asked = seen(RIGHT)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8123")
    assert main(["doctor"]) == 0
    assert asked == [("gemma-270m", 8123)]
    for value in ("70000", "x"):
        with pytest.raises(SystemExit):
            main(["doctor", "--port", value])
        assert f"{value!r} is no port" in capsys.readouterr().err
    monkeypatch.setenv("GRADIO_SERVER_PORT", "x")
    assert main(["trios"]) == 0  # other commands do not read it
