"""A labelled set of one's own, CSV or JSON lines, as a task. No row is dropped in silence."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from models import Demonstration, Layout, PromptError
from playground.evaluation.metrics import normalised
from playground.evaluation.tabular import Bad, read_rows
from playground.evaluation.task import Item, Score, Task

MAX_ITEMS = 10_000
"""Rows that are read; what lies beyond is said, and not read."""
MAX_LABELS = 100
_NAMED = 5
"""Bad rows that a message names; the others are counted."""


def read_own(
    path: Path,
    input_column: str,
    label_column: str,
    *,
    instructions: Sequence[str] = (),
    score: Score = "label",
    layout: Layout | None = None,
    labels: Sequence[str] = (),
    demonstrations: int = 4,
) -> tuple[Task, list[str]]:
    """Read a set.

    Args:
        path: CSV with a line of column names (commas, semicolons or tabs between), or JSON lines
            (`.jsonl`).
        input_column: where the input stands.
        label_column: where the right answer stands.
        instructions: wordings of the instruction; where there is none, one that names the labels.
        score: one of the labels is right, or the very text, or a text much like it.
        layout: labels of the input and of the cue.
        labels: all labels; those that the column has, if none are given.
        demonstrations: rows, the first ones, that few-shot prompts show and that are not asked.

    Returns:
        The task, and what its owner should know about it.

    Raises:
        PromptError: the file or rows of it cannot be used; each is named by its line.
    """
    if not input_column or not label_column:
        raise PromptError(f"{path.name}: choose the column of the input and that of the label.")
    if input_column == label_column:
        raise PromptError(
            f"{path.name}: input and label are both the column {input_column!r}, so that the "
            "answer would stand in the prompt. Choose two."
        )
    pairs, more = _pairs(path, input_column, label_column)
    notes = []
    if more:
        notes.append(f"{path.name}: holds more than {MAX_ITEMS:,} rows; those were taken.")
    if len(pairs) <= demonstrations:
        raise PromptError(
            f"{path.name}: has {len(pairs)} rows, and {demonstrations} are shown as "
            "demonstrations. Add rows, or show fewer."
        )
    if again := len(pairs) - len({text for text, _ in pairs}):
        notes.append(f"{path.name}: {again} rows have the input of another; all are asked.")
    if score == "label" and len({gold for _, gold in pairs[:demonstrations]}) == 1:
        notes.append(f"{path.name}: all demonstrations have one label; mix the rows.")
    known = _labels(path.name, pairs, labels, notes) if score == "label" else ()
    task = Task(
        name=path.stem,
        title=path.name,
        cluster="own",
        held_out=None,
        licence="not said",
        source=path.name,
        score=score,
        layout=layout or Layout(),
        labels=known,
        instructions=tuple(instructions) or (_instruction(known),),
        demonstrations=tuple(Demonstration(*one) for one in pairs[:demonstrations]),
        items=tuple(Item(*one) for one in pairs[demonstrations:]),
    )
    return task, notes


def _labels(
    where: str, pairs: Sequence[tuple[str, str]], given: Sequence[str], notes: list[str]
) -> tuple[str, ...]:
    seen = dict.fromkeys(gold for _, gold in pairs)
    if given:
        if unknown := [gold for gold in seen if gold not in given]:
            raise PromptError(
                f"{where}: a row is answered {unknown[0]!r}; the labels are: {', '.join(given)}."
            )
        notes += [f"{where}: no row is answered {one!r}." for one in given if one not in seen]
    known = tuple(dict.fromkeys(given or seen))
    if len(known) < 2:
        raise PromptError(f"{where}: there is one label, {known[0]!r}; to choose, it takes two.")
    plain = [normalised(label) for label in known]
    if len(set(plain)) < len(plain):
        twice = [label for label in known if plain.count(normalised(label)) > 1]
        raise PromptError(f"{where}: labels {twice[0]!r} and {twice[1]!r} are one to a reader.")
    if len(known) > MAX_LABELS:
        raise PromptError(
            f"{where}: there are {len(known)} labels, and at most {MAX_LABELS} are ranked. Score "
            "it as exact or as text."
        )
    return known


def _instruction(labels: Sequence[str]) -> str:
    if not labels:
        return "Answer."
    return f"Answer with one of: {', '.join(labels)}."


def _pairs(path: Path, *columns: str) -> tuple[list[tuple[str, str]], bool]:
    """Return input and answer of each row, and whether there are more than are read."""
    pairs: list[tuple[str, str]] = []
    bad: list[str] = []
    try:
        rows = read_rows(path, columns)
        for line, row in islice(rows, MAX_ITEMS):
            found = _fields(row, columns)
            if isinstance(found, str):
                bad.append(f"line {line}: {found}")
            else:
                pairs.append(found)
        more = next(rows, None) is not None
    except (OSError, ValueError, csv.Error) as error:
        raise PromptError(f"{path.name}: cannot be read: {error}.") from error
    if bad:
        rest = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise PromptError(
            f"{path.name}: {'; '.join(bad[:_NAMED])}{rest}. Mend these rows, or take them out."
        )
    if not pairs:
        raise PromptError(f"{path.name}: holds no row. It needs an input and an answer in each.")
    return pairs, more


def _fields(row: Any, columns: Sequence[str]) -> tuple[str, str] | str:
    """Return the two fields of a row, or what is wrong with it."""
    if isinstance(row, Bad):
        return row.why
    values = []
    for column in columns:
        value = row.get(column)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return f"{column} is {value!r}, no text"
        if not str(value).strip():
            return f"{column} is empty"
        values.append(str(value).strip())
    return values[0], values[1]
