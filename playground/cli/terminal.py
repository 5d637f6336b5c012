"""Prints to a terminal: no text of a model, a server or a file can control it."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text


def printable(text: str) -> str:
    """Escape control characters, such as those that begin a terminal's commands."""
    return "".join(
        char if char in "\n\t" or (ord(char) >= 32 and not 127 <= ord(char) < 160)
        else f"\\x{ord(char):02x}"
        for char in text
    )  # fmt: skip


def say(text: object, file: TextIO | None = None) -> None:
    """Print a text; to stdout, unless another stream is given."""
    print(printable(str(text)), file=file or sys.stdout)


def print_json(value: Any) -> None:
    """Print a JSON-ready value, with escapes if the terminal lacks some of its characters."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = re.sub(r"[\x7f-\x9f]", lambda match: f"\\u{ord(match[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1)
    print(text)


class Terminal(Console):
    """A console of rich whose strings are printed as they are: no markup, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as styled text."""
        return super().render_str(printable(text), **options | {"markup": False, "emoji": False})
