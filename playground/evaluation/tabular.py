"""Reads the rows of a CSV or JSON-lines file, with their line numbers; independent of tasks."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import PromptError

_DELIMITERS = ",;\t"
"""Column delimiters; a file's delimiter is the one that splits its header into most columns."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, with the reason."""

    why: str


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield pairs of line number and row; a row is a dict, or `BadRow`.

    Raises:
        PromptError: a column is missing, or the header cannot be used.
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8.
        csv.Error: the header is not CSV.
    """
    lines = _lines(path)
    yield from _json_rows(lines) if _is_json(path) else _csv_rows(lines, path.name, columns)


def columns_of(path: Path) -> tuple[list[str], int]:
    """Return the names of a file's columns, and its number of non-empty lines after the header.

    The names are CSV's header, or the keys of the first object of JSON lines.

    Raises:
        PromptError: the file has fewer than two named columns.
    """
    try:
        lines = _lines(path)
        if _is_json(path):
            number, first = next(_json_rows(lines), (1, BadRow("is empty")))
            if isinstance(first, BadRow):
                raise ValueError(f"line {number} {first.why}")
            names, header_end = list(first), number - 1
        else:
            reader = _reader(lines, path.name)
            names, header_end = list(reader.fieldnames or []), reader.line_num
    except (OSError, ValueError, csv.Error) as error:
        raise PromptError(f"{path.name}: has no columns: {error}.") from error
    named_columns = [name for name in names if name.strip()]
    if len(named_columns) < 2:
        has = (
            f"one column, {named_columns[0]!r}"
            if named_columns
            else "no columns: its first line is empty"
        )
        raise PromptError(
            f"{path.name}: has {has}. It needs one of inputs and one of labels, with commas, "
            "semicolons or tabs between."
        )
    return named_columns, sum(bool(line.strip()) for line in lines[header_end:])


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def _lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    if content.startswith(_UTF_16):
        raise ValueError("it is UTF-16; save it as UTF-8")
    return content.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)


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
            row = BadRow(f"is no JSON ({error})")
        yield number, row if isinstance(row, dict | BadRow) else BadRow("is no object")


def _reader(lines: Sequence[bytes], where: str) -> csv.DictReader[str]:
    """Return a CSV reader of the rows, with the delimiter detected and the header checked.

    Raises:
        PromptError: two columns have the same name, or a name has a line break.
    """

    def columns(delimiter: str) -> int:
        return len(next(csv.reader(_decoded(lines), delimiter=delimiter), []))

    reader = csv.DictReader(_decoded(lines), delimiter=max(_DELIMITERS, key=columns), strict=True)
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
            yield begins, BadRow(f"is no CSV ({error}): a quote that opens here may not be closed")
            return
        yield begins, BadRow("has more fields than the first line names") if None in row else row
