"""Answers on a terminal: three labelled blocks that grow together; plain blocks into a pipe."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from models import Trio, Variant
from playground.compare import Answer, Answers, finish

_STYLES = {"base": "bold blue", "task": "bold yellow", "instruct": "bold cyan"}


def show(trio: Trio, states: Generator[Answers, Any, None], console: Console) -> None:
    """Paint the answers as they come; closing is left to whoever opened the stream."""
    if not console.is_terminal:
        console.print(_blocks(trio, finish(states)), soft_wrap=True)
        return
    with closing(states), Live(console=console, refresh_per_second=12) as live:
        live.vertical_overflow = "visible"
        for answers in states:
            live.update(_blocks(trio, answers))


def printable(text: str) -> str:
    """Make control characters visible, so that no answer can command the terminal."""
    return "".join(
        char if char in "\n\t" or (ord(char) >= 32 and not 127 <= ord(char) < 160)
        else f"\\x{ord(char):02x}"
        for char in text
    )  # fmt: skip


def _blocks(trio: Trio, answers: Answers) -> Group:
    lines = [_block(v, answers[v.role]) for v in trio.variants if v.role in answers]
    return Group(*lines)


def _block(variant: Variant, answer: Answer) -> Text:
    text = Text()
    text.append(f"── {variant.role} · {variant.name}\n", _STYLES[variant.role])
    text.append(f"{printable(answer.text)}\n")
    stopped = f" · {answer.stopped}" if answer.stopped else ""
    text.append(f"{answer.figures}{stopped}\n", "dim")
    if answer.error:
        text.append(f"{answer.error}\n", "red")
    return text
