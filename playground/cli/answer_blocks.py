"""Prints the answers of a comparison as labelled blocks that grow together."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from models import Trio
from playground.cli.terminal import printable
from playground.comparison.compare import Answers, figures, finish
from playground.comparison.records import answer_record

_REASONING_SHOWN = 60
"""Characters of the reasoning that stand for all of it."""
STYLES = {"base": "bold blue", "task": "bold yellow", "instruct": "bold cyan"}


def show_answers(trio: Trio, states: Generator[Answers, Any, None], console: Console) -> None:
    """Print the answers as they grow on a terminal, or once they are finished elsewhere."""
    if not console.is_terminal:
        console.print(_blocks(trio, finish(states)), soft_wrap=True)
        return
    _show_growing((_blocks(trio, answers) for answers in states), console)


def show_records(states: Iterable[Mapping[str, Any]], console: Console) -> None:
    """Print a comparison's growing record likewise."""
    if not console.is_terminal:
        console.print(_record_blocks(deque(states, maxlen=1)[0]), soft_wrap=True)
        return
    _show_growing(map(_record_blocks, states), console)


def _show_growing(states: Iterable[Group], console: Console) -> None:
    with Live(console=console, refresh_per_second=12) as live:
        live.vertical_overflow = "visible"
        for blocks in states:
            live.update(blocks)


def _blocks(trio: Trio, answers: Answers) -> Group:
    lines = [
        _block(v.role, v.name, answers[v.role].figures, answer_record(answers[v.role]))
        for v in trio.variants
        if v.role in answers
    ]
    return Group(*lines)


def _record_blocks(record: Mapping[str, Any]) -> Group:
    """Return the blocks of a comparison's record, with names of weights in place of variants'."""
    lines = []
    for role, answer in record["answers"].items():
        weights = answer["weights"]
        name = weights["adapter"] or weights["model"]
        speed = figures(answer["new_tokens"], answer["first_token_s"], answer["tokens_per_s"])
        lines.append(_block(role, printable(name), speed, answer))
    return Group(*lines)


def _block(role: str, name: str, speed: str, answer: Mapping[str, Any]) -> Text:
    """Return an answer's block.

    Args:
        role: the variant's.
        name: what stands beside the role.
        speed: the answer's figures.
        answer: its record, as `answer_record` returns it.
    """
    text = Text()
    text.append(f"── {printable(role)} · {name}\n", STYLES.get(role, ""))
    text.append(f"{printable(answer['text'])}\n")
    stopped = f" · {answer['stopped']}" if answer["stopped"] else ""
    text.append(f"{speed}{printable(stopped)}\n", "dim")
    append_remarks(text, answer)
    return text


def append_remarks(text: Text, answer: Mapping[str, Any]) -> None:
    """Append the beginning of an answer's reasoning, its notes, and its error, a line each."""
    if answer["reasoning"]:
        words = printable(answer["reasoning"]).split()
        beginning = " ".join(words)[:_REASONING_SHOWN]
        text.append(f"reasoning, {len(words)} words (--json prints all): {beginning} …\n", "dim")
    for note in answer["notes"]:
        text.append(f"{printable(note)}\n", "yellow")
    if answer["error"]:
        text.append(f"{printable(answer['error'])}\n", "red")
