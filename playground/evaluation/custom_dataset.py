"""A user's own labelled data set, CSV or JSON lines, as a task. No row is dropped silently."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from models import BadRow, Demonstration, Layout, PromptError, clean, half_character
from playground.comparison.labels import normalised
from playground.evaluation.tabular import listed, read_rows
from playground.evaluation.task import Item, Score, Task

MAX_ITEMS = 10_000
"""Maximum number of rows that are read; a note reports if a file has more."""
MAX_LABELS = 100
"""Maximum number of labels of a task that are ranked by likelihood."""
_NAMED = 5
"""Number of bad lines, and of reasons, that an error message names; the others are counted."""
_MISSING = (
    "nan",
    "null",
    "<na>",
    "#n/a",
    "#ref!",
    "#value!",
    "#div/0!",
    "#name?",
    "#num!",
    "#null!",
)
"""What programs write for a value that is missing, or that a spreadsheet could not compute."""
_MAYBE_MISSING = ("none", "n/a", "na", "nil")
"""Some write these, which are labels of some sets, too."""


def read_custom_dataset(
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
    """Read a labelled data set as a task.

    Args:
        path: JSON (lines or an array), or CSV with a header and commas, semicolons, tabs or bars
            between the columns.
        input_column: column of the inputs.
        label_column: column of the right answers.
        instructions: wordings of the instruction; if there are none, one that lists the labels.
        score: how answers are scored: as one of the labels, as exactly the gold text, or by
            likeness to it.
        layout: label of the input, and cue.
        labels: all labels; if there are none, those in the label column.
        demonstrations: number of rows, from the first on, that few-shot prompts show; they are not
            items.

    Returns:
        The task, and notes on the data set for the user.

    Raises:
        PromptError: the file or some rows cannot be used; the message gives the rows' lines.
    """
    if not input_column or not label_column:
        raise PromptError(f"{path.name}: choose the column of the input and that of the label.")
    if input_column == label_column:
        raise PromptError(
            f"{path.name}: input and label are both the column {input_column!r}, so that the "
            "answer would stand in the prompt. Choose two."
        )
    pairs, lines, more = _pairs(path, input_column, label_column)
    notes = []
    if more:
        notes.append(f"{path.name}: holds more than {MAX_ITEMS:,} rows; those were taken.")
    if len(pairs) <= demonstrations:
        raise PromptError(
            f"{path.name}: has {_rows(len(pairs))}, but demonstrations take {demonstrations}. "
            "Add rows, or show fewer."
        )
    if repeated := len(pairs) - len({text for text, _ in pairs}):
        have = "has" if repeated == 1 else "have"
        notes.append(f"{path.name}: {_rows(repeated)} {have} the input of another; all are asked.")
    if score == "label" and len({gold for _, gold in pairs[:demonstrations]}) == 1:
        notes.append(f"{path.name}: all demonstrations have one label; mix the rows.")
    task_labels = _labels(path.name, pairs, lines, labels, notes) if score == "label" else ()
    task = Task(
        name=path.stem,
        title=path.name,
        cluster="own",
        held_out=None,
        licence="not said",
        source=path.name,
        score=score,
        layout=layout or Layout(),
        labels=task_labels,
        instructions=tuple(instructions) or (_instruction(task_labels),),
        demonstrations=tuple(Demonstration(*pair) for pair in pairs[:demonstrations]),
        items=tuple(Item(*pair) for pair in pairs[demonstrations:]),
    )
    return task, notes


def _labels(
    where: str,
    pairs: Sequence[tuple[str, str]],
    lines: Sequence[int],
    given: Sequence[str],
    notes: list[str],
) -> tuple[str, ...]:
    golds: dict[str, int] = {}
    for (_, gold), line in zip(pairs, lines, strict=True):
        golds.setdefault(gold, line)
    given = [_label(label) for label in given]
    if long := [gold for gold in golds if "\n" in gold]:
        raise PromptError(
            f"{where}: line {golds[long[0]]}: the label {long[0]!r:.60} has a line break. Write it "
            "in one line, or score the set as text."
        )
    if given:
        if unknown := [gold for gold in golds if gold not in given]:
            raise PromptError(
                f"{where}: line {golds[unknown[0]]} is answered {unknown[0]!r}; the labels are: "
                f"{', '.join(given)}."
            )
        absent = [label for label in given if label not in golds]
        notes += [f"{where}: no row is answered {label!r}." for label in absent]
    elif doubtful := [gold for gold in golds if gold.lower() in _MAYBE_MISSING]:
        rows = sum(gold in doubtful for _, gold in pairs)
        notes.append(
            f"{where}: the label {' or '.join(map(repr, doubtful))} of {_rows(rows)} may stand for "
            f"a missing one; take {'it' if rows == 1 else 'them'} out if so."
        )
    distinct = tuple(dict.fromkeys(given or golds))
    if len(distinct) < 2:
        raise PromptError(f"{where}: there is one label, {distinct[0]!r}; to choose, it takes two.")
    _check_spelling(where, distinct, golds)
    if len(distinct) > MAX_LABELS:
        raise PromptError(
            f"{where}: there are {len(distinct)} labels, and at most {MAX_LABELS} are ranked. "
            "Score it as exact or as text."
        )
    return distinct


def _check_spelling(file: str, labels: Sequence[str], golds: Mapping[str, int]) -> None:
    """Refuse labels that differ in nothing that a reader goes by; `golds` has lines of labels."""
    spelt: dict[str, str] = {}
    for label in labels:
        if (other := spelt.setdefault(normalised(label), label)) != label:
            numbers = [golds[spelling] for spelling in (other, label) if spelling in golds]
            at = f" ({_lines(numbers)})" if numbers else ""
            raise PromptError(
                f"{file}: labels {other!r} and {label!r} are one to a reader{at}. Spell them alike."
            )


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _instruction(labels: Sequence[str]) -> str:
    if not labels:
        return "Answer."
    return f"Answer with one of: {', '.join(labels)}."


def _pairs(path: Path, *columns: str) -> tuple[list[tuple[str, str]], list[int], bool]:
    """Return input and gold of each row, its line, and whether the file has over `MAX_ITEMS`."""
    pairs: list[tuple[str, str]] = []
    lines: list[int] = []
    bad: dict[str, list[int]] = {}
    try:
        rows = read_rows(path, columns)
        for line, row in islice(rows, MAX_ITEMS):
            pair = _fields(row, columns)
            if isinstance(pair, str):
                bad.setdefault(pair, []).append(line)
            else:
                pairs.append(pair)
                lines.append(line)
        more = next(rows, None) is not None
    except (OSError, ValueError) as error:
        raise PromptError(f"{path.name or path}: cannot be read: {error}.") from error
    if bad:
        reasons = [_reason(numbers, why) for why, numbers in bad.items()]
        if unnamed := sum(map(len, list(bad.values())[_NAMED:])):
            reasons[_NAMED:] = [f"and {unnamed} lines more"]
        raise PromptError(f"{path.name}: {'; '.join(reasons)}. Mend these rows, or take them out.")
    if not pairs:
        raise PromptError(f"{path.name}: holds no row. It needs an input and an answer in each.")
    return pairs, lines, more


def _reason(numbers: Sequence[int], why: str) -> str:
    """Return what is wrong with some lines: "line 3: is no object", "lines 3 and 4: are no …"."""
    if len(set(numbers)) > 1:
        why = re.sub(r"^has\b", "have", re.sub(r"^is\b", "are", why))
    return f"{_lines(numbers)}: {why}"


def _lines(numbers: Sequence[int]) -> str:
    """Return line numbers in words: "lines 3, 5 and 9"."""
    numbers = list(dict.fromkeys(numbers))  # JSON may have several rows in a line
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    named = [str(number) for number in numbers[:_NAMED]]
    last = f"{len(numbers) - _NAMED} more" if len(numbers) > _NAMED else named.pop()
    return f"lines {', '.join(named)} and {last}"


def _fields(row: Any, columns: Sequence[str]) -> tuple[str, str] | str:
    """Return the values of the columns in a row, or what is wrong with the row."""
    if isinstance(row, BadRow):
        return row.why
    values = []
    for column in columns:
        if column not in row:
            return f"{column} is missing; the row has: {listed(row)}"
        value = row[column]
        if value is None:
            return f"{column} is null"
        if isinstance(value, bool):
            value = str(value).lower()  # as JSON spells it
        if not isinstance(value, str | int | float):
            return f"{column} is {value!r:.60}, no text"
        text = clean(str(value))
        if not text:
            return f"{column} is empty"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{column} is {value!r}, no text"
        if half := half_character(text):
            return f"{column} has half a character ({half!r}), which no model reads"
        values.append(text)
    if values[1].lower() in _MISSING:
        return f"{columns[1]} is {values[1]!r}, which stands for a missing one"
    return values[0], _label(values[1])


def _label(text: str) -> str:
    """Return a label in one spelling: NFC, without spaces, seen or not, around it."""
    return unicodedata.normalize("NFC", clean(text))
