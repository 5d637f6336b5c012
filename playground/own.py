"""A labelled set of one's own, CSV or JSON lines, as a task. No row is dropped in silence."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from models import Demonstration, Layout, PromptError
from playground.score import normalised
from playground.tasks import Item, Score, Task

MAX_ITEMS = 10_000
"""Rows that are read; what lies beyond is said, and not read."""
MAX_LABELS = 100
_NAMED = 5
"""Bad rows that a message names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used."""

    why: str


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
        path: CSV with a line of column names, or JSON lines (`.jsonl`).
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
        with path.open(encoding="utf-8-sig", newline="") as file:
            jsonl = path.suffix.lower() == ".jsonl"
            rows = _json_rows(file) if jsonl else _csv_rows(file, path.name, columns)
            for line, row in islice(rows, MAX_ITEMS):
                found = _fields(row, columns)
                if isinstance(found, str):
                    bad.append(f"line {line}: {found}")
                else:
                    pairs.append(found)
            more = next(rows, None) is not None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
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


def _json_rows(file: Any) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = Bad(f"is no JSON ({error})")
        yield number, row if isinstance(row, dict | Bad) else Bad("is no object")


def _csv_rows(file: Any, where: str, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(file, strict=True)
    names = reader.fieldnames or []
    for column in columns:
        if names and column not in names:
            raise PromptError(f"{where}: has no column {column!r}. It has: {', '.join(names)}.")
    while True:
        begins = reader.line_num + 1
        try:
            row: Any = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield begins, Bad(f"is no CSV ({error}): a quote that opens here may not be closed")
            return
        yield begins, Bad("has more fields than the first line names") if None in row else row
