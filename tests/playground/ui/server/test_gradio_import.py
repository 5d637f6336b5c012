"""Gradio is imported without the stubs that it writes for editors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import ast, inspect
parse, parsed, getfile = ast.parse, [], inspect.getfile
ast.parse = lambda *args, **kwargs: parsed.append(args) or parse(*args, **kwargs)
from playground.ui.server.gradio_import import import_gradio
import_gradio()
import gradio
print(len(parsed) < 20, inspect.getfile is getfile, callable(gradio.Textbox.submit))
"""


def test_no_component_is_parsed_and_all_are_there() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("True True True\n", 0), done.stderr
