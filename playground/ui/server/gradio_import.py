"""Imports Gradio in half the time."""

from __future__ import annotations

import inspect
import sys
from typing import Any


def import_gradio() -> None:
    """Import Gradio without the stubs for editors that it writes at each import.

    For each of its 80 kinds of components it parses the component's source and compares a stub file
    beside it, which takes longer than all the rest of the import. It leaves out what has no file.
    """
    getfile, module = inspect.getfile, inspect

    def no_stubs(object: Any) -> str:
        if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
            raise OSError("no stub is wanted")
        return getfile(object)

    module.getfile = no_stubs
    try:
        import gradio  # noqa: F401
    finally:
        module.getfile = getfile
