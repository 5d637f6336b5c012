"""python -m playground …: the same functions as the page and Python, printed."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from models import ModelError
from playground.cli import bench_command, doctor_command, long_commands, prompt_commands
from playground.cli.flags import further_trio_files
from playground.cli.terminal import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for a `ModelError`, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that is not UTF-8 lacks some characters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    flags = _parser().parse_args(arguments)
    try:
        with further_trio_files(getattr(flags, "trios", None)):
            flags.command(flags)
    except ModelError as error:
        say(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m playground", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    commands = {
        **prompt_commands.COMMANDS,
        **long_commands.COMMANDS,
        **bench_command.COMMANDS,
        **doctor_command.COMMANDS,
    }
    for name, (run, add_flags) in commands.items():
        command_parser = subparsers.add_parser(name, help=run.__doc__, description=run.__doc__)
        command_parser.set_defaults(command=run)
        add_flags(command_parser)
    return parser
