"""The command that examines this machine and a trio on it: doctor."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import models
from models import DoctorCheck, ModelError, find_trio
from playground.cli.flags import add_trio_flags, port
from playground.cli.progress import Bar
from playground.cli.terminal import print_json, say


def _doctor_flags(parser: argparse.ArgumentParser) -> None:
    usual = os.environ.get("GRADIO_SERVER_PORT", "7860")
    add_trio_flags(parser, use="trio to open")
    parser.add_argument("--port", type=port, default=usual, help=f"the page's port ({usual})")
    parser.add_argument("--json", action="store_true", help="print one object instead of lines")


def _doctor(flags: argparse.Namespace) -> None:
    """Examine this machine and a trio on it, to paste into a report; exit 1 on a fault."""
    trio, checks = find_trio(flags.trio), list[DoctorCheck]()
    with Bar() as bar:
        on_progress = bar.callback_for(bar.add_task("Examining", total=None))
        for check in models.run_doctor(trio, flags.port, on_progress):
            checks.append(check)
            if not flags.json:  # at once: what comes next may end the process
                say("\n".join(lines_of(check)))
    if flags.json:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        say(summary(checks))
    if faults := sum(check.verdict == "fault" for check in checks):
        raise ModelError(f"{faults} fault{'s' * (faults > 1)}, told above.")


def lines_of(check: DoctorCheck) -> list[str]:
    """Return a check as a plain line, and its advice as another."""
    mark = check.verdict.upper() if check.verdict == "fault" else check.verdict
    advice = [f"      → {check.advice}"] if check.advice else []
    return [f"{mark:<6}{check.name}: {check.value}", *advice]


def summary(checks: Sequence[DoctorCheck]) -> str:
    """Return the line that counts the checks."""
    counts = Counter(check.verdict for check in checks)
    return f"{counts['ok']} ok, {counts['note']} to note, {counts['fault']} at fault"


COMMANDS = {"doctor": (_doctor, _doctor_flags)}
"""Functions of each command: one that runs it (its docstring is the help), one for its flags."""
