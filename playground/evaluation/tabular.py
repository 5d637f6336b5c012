"""Reads the rows of a CSV or JSON file, with their line numbers; independent of tasks."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from models import BadRow, PromptError, clean, decoded, json_rows, lines_of
from playground.evaluation.csv_table import Table, parsed, table_of

_JSON = (".json", ".jsonl", ".jsonlines", ".ndjson")
MAX_COLUMNS = 500
"""Columns that a table may have."""
_NAMED = 20
"""Names of columns that an error lists."""
_RULE = re.compile(r":?-+:?")
"""A cell of the line under the header of a Markdown table."""
_DELIMITER_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_KEYED_ROWS = 100
"""First rows of JSON, whose keys are its columns, since the very first may lack some."""


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield pairs of line number and row; a row is a dict, or `BadRow`.

    Names have no spaces at their ends, and rows in which nothing stands are left out.

    Raises:
        PromptError: a column is missing, or the header cannot be used.
        OSError: the file cannot be read.
        ValueError: the file is no text in UTF-8.
    """
    lines = lines_of(path.read_bytes())
    if _is_json(path, lines):
        yield from json_rows("".join(decoded(lines)))
    else:
        yield from _csv_rows(lines, path.name, columns)


def columns_of(path: Path) -> tuple[list[str], int]:
    """Return the names of a file's columns, and its number of rows.

    The names are CSV's header, or the keys of the first objects of JSON.

    Raises:
        PromptError: the file has fewer than two named columns.
    """
    try:
        lines = lines_of(path.read_bytes())
        if _is_json(path, lines):
            names, rows = _json_columns(lines, path.name)
        else:
            table = table_of(lines)
            names = [name for name in _header(table, _records(table, lines), path.name) if name]
            rows = sum(1 for _ in _records(table, lines, "replace")) - bool(names)
    except (OSError, ValueError) as error:
        raise PromptError(f"{path.name or path}: has no columns: {error}.") from error
    if len(names) < 2:
        has = f"one column, {names[0]!r:.60}" if names else "no columns: its first line is empty"
        raise PromptError(
            f"{path.name}: has {has}. It needs one of inputs and one of labels, with commas, "
            "semicolons or tabs between if it is CSV."
        )
    return names, rows


def _is_json(path: Path, lines: Sequence[bytes]) -> bool:
    """Whether a file is JSON, by its name or by an object at its beginning."""
    beginning = b"".join(lines[:3]).lstrip()
    return path.suffix.lower() in _JSON or bool(re.match(rb'(?:\[\s*)?\{\s*"', beginning))


def _json_columns(lines: Sequence[bytes], where: str) -> tuple[list[str], int]:
    rows = list(json_rows("".join(decoded(lines))))
    number, first = rows[0] if rows else (1, BadRow("is empty"))
    if isinstance(first, BadRow):
        raise ValueError(f"line {number} {first.why}")
    names: dict[str, None] = {}
    for _, row in rows[:_KEYED_ROWS]:
        names.update(dict.fromkeys(row) if isinstance(row, dict) else {})
    _check_width(len(names), where)
    return [name for name in names if name], len(rows)


def _csv_rows(
    lines: Sequence[bytes], where: str, columns: Sequence[str]
) -> Iterator[tuple[int, Any]]:
    table = table_of(lines)
    records = _records(table, lines)
    names = _header(table, records, where)
    for column in columns:
        if names and column not in names:
            raise PromptError(
                f"{where}: has no column {column!r:.60}. It has: {listed(names)}. The first line "
                "must name the columns."
            )
    for number, fields in records:
        if isinstance(fields, BadRow):
            yield number, fields
        elif _overflows(names, fields):
            quoted = f"a text with {_DELIMITER_NAMES[table.delimiter]} needs quotes"
            why = f"has more fields than the first line names; {quoted}, row numbers a name"
            yield number, BadRow(why)
        elif any(names) and list(map(clean, fields)) == names:
            yield number, BadRow("is the first line again, as where files were joined")
        else:
            row = zip(names, fields, strict=False)
            yield number, {name: field for name, field in row if name is not None}


def _overflows(names: Sequence[str | None], fields: Sequence[str]) -> bool:
    """Whether a row has text where the header has no name, but for a first column of numbers."""
    nameless = (
        field for n, (name, field) in enumerate(zip(names, fields, strict=False)) if n and not name
    )
    return any(clean(field) for field in (*nameless, *fields[len(names) :]))


def _header(
    table: Table, records: Iterator[tuple[int, list[str] | BadRow]], where: str
) -> list[str | None]:
    """Return the names of the columns in the first record; None for columns that are empty.

    Raises:
        PromptError: two columns have the same name, or a name has a line break.
        ValueError: the first record is no CSV.
    """
    number, fields = next(records, (1, []))
    if isinstance(fields, BadRow):
        raise ValueError(f"line {number} {fields.why}")
    _check_width(len(fields), where)
    names: list[str | None] = [clean(field) for field in fields]
    nameless = {n for n, name in enumerate(names) if not name}
    if len(nameless) > 1:  # spreadsheets write empty columns beside the table
        for _, row in parsed(table.text, table.delimiter, quotes=table.has_quotes):
            if isinstance(row, list):
                nameless -= {n for n, field in enumerate(row) if clean(field)}
        names = [None if n in nameless else name for n, name in enumerate(names)]
    for number, name in enumerate(names, 1):
        if name is None:
            continue
        if "\n" in name:
            raise PromptError(f"{where}: the name of column {number} has two lines; make it one.")
        if (first := names.index(name) + 1) < number:
            named = f"are both named {name!r:.60}" if name else "have no name"
            raise PromptError(f"{where}: columns {first} and {number} {named}. Rename one.")
    return names


def _check_width(count: int, where: str) -> None:
    """Refuse a table that is no labelled set, and whose columns nobody could choose from."""
    if count > MAX_COLUMNS:
        raise PromptError(
            f"{where}: has {count:,} columns; at most {MAX_COLUMNS} are read. Save those of the "
            "input and of the label alone."
        )


def listed(names: Iterable[str | None]) -> str:
    """Return the first names of columns in words, each cut to a readable length."""
    named = [f"{name:.40}" for name in names if name]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _records(
    table: Table, lines: Sequence[bytes], errors: str = "strict"
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield the fields of each record in which something stands, with its line number.

    Raises:
        ValueError: a line is no UTF-8; the records before it have been yielded.
    """
    checked, seen = enumerate(decoded(lines, errors), 1 - table.skipped), 0
    for number, fields in parsed(table.text, table.delimiter, quotes=table.has_quotes):
        next((n for n, _ in checked if n >= number), None)  # raises at a line that is no UTF-8
        filled = [] if isinstance(fields, BadRow) else list(filter(None, map(clean, fields)))
        is_rule = seen == 1 and table.delimiter == "|" and all(map(_RULE.fullmatch, filled))
        seen += bool(filled)
        if isinstance(fields, BadRow) or (filled and not is_rule):
            yield number + table.skipped, fields
    deque(checked, maxlen=0)
