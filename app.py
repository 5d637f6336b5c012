"""Flags and environment → trio → page → launch; what a Space runs."""

from __future__ import annotations

import argparse
import os
import sys

from models import DEFAULT, ModelError, find_trio, read_trios
from playground.cli.flags import add_trio_flags, further_trio_files, port
from playground.cli.terminal import say
from playground.comparison.trio_loader import load_trios


def parser() -> argparse.ArgumentParser:
    """Return the parser of the program's flags; their defaults may come from the environment."""
    parser = argparse.ArgumentParser(prog="app.py", description="Serve the Triptych page.")
    add_trio_flags(parser, os.environ.get("TRIPTYCH_TRIO", DEFAULT), "trio that is shown first")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=port, default=os.environ.get("GRADIO_SERVER_PORT", "7860"))
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until it is interrupted; return the exit status."""
    flags = parser().parse_args(arguments)
    try:
        with further_trio_files(flags.trios):
            first = find_trio(flags.trio)
            others = [trio for name, trio in read_trios().items() if name != first.name]
    except ModelError as error:
        say(error, sys.stderr)
        return 1
    from playground.ui.server.gradio_import import import_gradio

    import_gradio()
    from playground.ui.server.launch import serve

    try:
        serve(load_trios([first, *others]), flags.host, flags.port)
    except OSError as error:
        reason = str(error).splitlines()[0]
        where = f"http://{flags.host}:{flags.port}"
        say(f"{where} cannot be served: {reason} Choose another --port.", sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
