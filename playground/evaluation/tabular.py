"""Rows of a CSV or JSON-lines file, each with the line that it begins on. Knows no task."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import PromptError

_BETWEEN = ",;\t"
"""What may stand between columns; the file has the one that cuts its first line into most."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used."""

    why: str


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the line and the row of each: a dict, or `Bad`.

    Raises:
        PromptError: there is no such column, or the names of columns cannot be used.
        OSError: the file cannot be read.
        ValueError: it is no UTF-8.
        csv.Error: its first line is no CSV.
    """
    lines = _lines(path)
    yield from _json_rows(lines) if _is_json(path) else _csv_rows(lines, path.name, columns)


def columns_of(path: Path) -> tuple[list[str], int]:
    """Return the names of a file's columns, and how many lines of rows it has.

    The names are those that CSV's first line gives, or the keys of JSON lines' first object.

    Raises:
        PromptError: it has fewer than two.
    """
    try:
        lines = _lines(path)
        if _is_json(path):
            number, first = next(_json_rows(lines), (1, Bad("is empty")))
            if isinstance(first, Bad):
                raise ValueError(f"line {number} {first.why}")
            names, begins = list(first), number - 1
        else:
            reader = _reader(lines, path.name)
            names, begins = list(reader.fieldnames or []), reader.line_num
    except (OSError, ValueError, csv.Error) as error:
        raise PromptError(f"{path.name}: has no columns: {error}.") from error
    named = [name for name in names if name.strip()]
    if len(named) < 2:
        has = f"one column, {named[0]!r}" if named else "no columns: its first line is empty"
        raise PromptError(
            f"{path.name}: has {has}. It needs one of inputs and one of labels, with commas, "
            "semicolons or tabs between."
        )
    return named, sum(bool(line.strip()) for line in lines[begins:])


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def _lines(path: Path) -> list[bytes]:
    found = path.read_bytes()
    if found.startswith(_UTF_16):
        raise ValueError("it is UTF-16; save it as UTF-8")
    return found.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)


def _decoded(lines: Sequence[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise ValueError(
                f"line {number} is no UTF-8 (byte {byte:#x}); save the file as UTF-8"
            ) from error


def _json_rows(lines: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_decoded(lines), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            row = Bad(f"is no JSON ({error})")
        yield number, row if isinstance(row, dict | Bad) else Bad("is no object")


def _reader(lines: Sequence[bytes], where: str) -> csv.DictReader[str]:
    """Return what reads the rows, its first line read.

    Raises:
        PromptError: two columns have one name, which would lose the first, or a name has lines.
    """

    def cut(between: str) -> int:
        return len(next(csv.reader(_decoded(lines), delimiter=between), []))

    reader = csv.DictReader(_decoded(lines), delimiter=max(_BETWEEN, key=cut), strict=True)
    names = list(reader.fieldnames or [])
    for number, name in enumerate(names, 1):
        if "\n" in name or "\r" in name:
            raise PromptError(f"{where}: the name of column {number} has two lines; make it one.")
        if (first := names.index(name) + 1) < number:
            named = f"are both named {name!r}" if name else "have no name"
            raise PromptError(f"{where}: columns {first} and {number} {named}. Rename one.")
    return reader


def _csv_rows(
    lines: Sequence[bytes], where: str, columns: Sequence[str]
) -> Iterator[tuple[int, Any]]:
    reader = _reader(lines, where)
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
