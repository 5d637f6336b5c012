"""Readers of rows that people have made themselves; a bad one is named by its line."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.text_files import BadRow, decoded, half_character, json_rows, lines_of
from models.tuning.raw_example import RawExample
from models.tuning.recipe import Source


def read_rows(path: Path, source: Source) -> Iterator[RawExample]:
    """Rows of instruction (optional), input and output, as `make-data` writes them."""
    for row, where in _own_rows(path):
        instruction, method = (_text(row, key, where, "") for key in ("instruction", "method"))
        task = method if method in _SINGLE_TASK_METHODS else ""
        input, output = (_text(row, key, where) for key in ("input", "output"))
        yield RawExample(task, instruction, input, output)


_SINGLE_TASK_METHODS = {"title", "summary", "cloze", "order"}
"""Methods of `make-data` whose rows are one task, and may be demonstrations for each other."""


def read_passages(path: Path, source: Source) -> Iterator[RawExample]:
    """Plain texts for continued pre-training."""
    for row, where in _own_rows(path):
        yield RawExample("", "", "", _text(row, "text", where))


def _own_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the objects of a JSON file that a person has made, each with its place."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            text = "".join(decoded(lines_of(file.read())))
    except ValueError as error:
        raise WeightsError(f"{path}: cannot be read: {error}.") from error
    for number, row in json_rows(text):
        if isinstance(row, BadRow):
            raise WeightsError(f"{path}: line {number} {row.why}. Mend it, or take it out.")
        yield row, f"{path}: line {number}"


def _text(row: dict[str, Any], key: str, where: str, default: str | None = None) -> str:
    """Return a row's text under a key.

    Raises:
        WeightsError: there is none, or it cannot be tokenized.
    """
    text = row.get(key, default)
    if not isinstance(text, str):
        raise WeightsError(
            f"{where}: {key} is {text!r:.60}, no text; the row has: {', '.join(row)}."
        )
    if half := half_character(text):
        raise WeightsError(f"{where}: {key} has half a character ({half!r}). Take it out.")
    return text
