"""Reads the rows of a CSV or JSON file, with their line numbers; independent of tasks."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from models import BadRow, PromptError, clean, decoded, json_rows, lines_of

csv.field_size_limit((1 << 31) - 1)  # the default, 131,072, is less than some texts

_DELIMITERS = ",;\t|"
"""Column delimiters; names such as "pos|neg" may hold the last."""
_JSON = (".json", ".jsonl", ".jsonlines", ".ndjson")
_SEP_LINE = re.compile(rb'"?sep=([,;\t|])"?\s*', re.IGNORECASE)
"""The first line of a CSV in which a spreadsheet names the delimiter."""
_BACKSLASHED = re.compile(r'(?m)(?:^|[,;\t|]) ?"[^\n]*?\\"(?!["\',;\t|\n])(?=.)')
"""A quote after a backslash inside a quoted field, which standard CSV never has."""
_RULE = re.compile(r":?-{2,}:?")
"""A cell of the line under the header of a Markdown table."""
_FIRST_ROWS = 100
"""Rows of JSON whose keys are columns, since the first may lack some; of CSV, those that show its
delimiter."""


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
            names, rows = _json_columns(lines)
        else:
            names = [name for name in _header(_records(lines), lines, path.name) if name]
            rows = sum(1 for _ in _records(lines, "replace")) - bool(names)
    except (OSError, ValueError) as error:
        raise PromptError(f"{path.name}: has no columns: {error}.") from error
    if len(names) < 2:
        has = f"one column, {names[0]!r}" if names else "no columns: its first line is empty"
        raise PromptError(
            f"{path.name}: has {has}. It needs one of inputs and one of labels, with commas, "
            "semicolons or tabs between if it is CSV."
        )
    return names, rows


def _is_json(path: Path, lines: Sequence[bytes]) -> bool:
    """Whether a file is JSON, by its name or by an object at its beginning."""
    beginning = b"".join(lines[:3]).lstrip()
    return path.suffix.lower() in _JSON or bool(re.match(rb'(?:\[\s*)?\{\s*"', beginning))


def _json_columns(lines: Sequence[bytes]) -> tuple[list[str], int]:
    rows = list(json_rows("".join(decoded(lines))))
    number, first = rows[0] if rows else (1, BadRow("is empty"))
    if isinstance(first, BadRow):
        raise ValueError(f"line {number} {first.why}")
    names: dict[str, None] = {}
    for _, row in rows[:_FIRST_ROWS]:
        names.update(dict.fromkeys(row) if isinstance(row, dict) else {})
    return [name for name in names if name], len(rows)


def _csv_rows(
    lines: Sequence[bytes], where: str, columns: Sequence[str]
) -> Iterator[tuple[int, Any]]:
    records = _records(lines)
    names = _header(records, lines, where)
    for column in columns:
        if names and column not in names:
            has = ", ".join(name for name in names if name)
            raise PromptError(
                f"{where}: has no column {column!r}. It has: {has}. The first line must name the "
                "columns."
            )
    for number, fields in records:
        if isinstance(fields, BadRow):
            yield number, fields
        elif _overflows(names, fields):
            why = "has more fields than the first line names; a text with a comma needs quotes"
            yield number, BadRow(why)
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
    records: Iterator[tuple[int, list[str] | BadRow]], lines: Sequence[bytes], where: str
) -> list[str | None]:
    """Return the names of the columns in the first record; None for columns that are empty.

    Raises:
        PromptError: two columns have the same name, or a name has a line break.
        ValueError: the first record is no CSV.
    """
    number, fields = next(records, (1, []))
    if isinstance(fields, BadRow):
        raise ValueError(f"line {number} {fields.why}")
    names: list[str | None] = [clean(field) for field in fields]
    nameless = {n for n, name in enumerate(names) if not name}
    if len(nameless) > 1:  # spreadsheets write empty columns beside the table
        for _, row in _records(lines, "replace"):
            if isinstance(row, list):
                nameless -= {n for n, field in enumerate(row) if clean(field)}
        names = [None if n in nameless else name for n, name in enumerate(names)]
    for number, name in enumerate(names, 1):
        if name is None:
            continue
        if "\n" in name:
            raise PromptError(f"{where}: the name of column {number} has two lines; make it one.")
        if (first := names.index(name) + 1) < number:
            named = f"are both named {name!r}" if name else "have no name"
            raise PromptError(f"{where}: columns {first} and {number} {named}. Rename one.")
    return names


def _records(
    lines: Sequence[bytes], errors: str = "strict"
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield the fields of each record in which something stands, with its line number.

    Raises:
        ValueError: a line is no UTF-8; the records before it have been yielded.
    """
    sep_line = _SEP_LINE.fullmatch(lines[0]) if lines else None
    skipped = 1 if sep_line else 0
    text = "".join(islice(decoded(lines, "replace"), skipped, None))
    if '\\"' in text and _BACKSLASHED.search(text):
        text = text.replace('\\"', '""')
    delimiter = sep_line[1].decode() if sep_line else _delimiter(text)
    checked, seen = enumerate(decoded(lines, errors), 1 - skipped), 0
    for number, fields in _parsed(text, delimiter, quotes=not _has_plain_quotes(text, delimiter)):
        next((n for n, _ in checked if n >= number), None)  # raises at a line that is no UTF-8
        filled = [] if isinstance(fields, BadRow) else list(filter(None, map(clean, fields)))
        is_rule = seen == 1 and delimiter == "|" and all(map(_RULE.fullmatch, filled))
        seen += bool(filled)
        if isinstance(fields, BadRow) or (filled and not is_rule):
            yield number + skipped, fields
    deque(checked, maxlen=0)


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the header and as many of the first rows alike."""

    def fit(delimiter: str) -> tuple[bool, int, bool, int]:
        records = (fields for _, fields in islice(_parsed(text, delimiter), _FIRST_ROWS))
        counts = [len(row) for row in records if isinstance(row, list) and any(map(clean, row))]
        columns = counts[0] if counts else 0
        return columns > 1, counts.count(columns), delimiter != "|", columns

    return max(_DELIMITERS, key=fit)


def _has_plain_quotes(text: str, delimiter: str) -> bool:
    """Whether quotes are text: in a table with tabs that has a row on each line, and no pairs."""
    if delimiter != "\t" or not any(isinstance(row, BadRow) for _, row in _parsed(text, "\t")):
        return False
    return len({line.count("\t") for line in text.split("\n") if line.strip()}) == 1


def _parsed(
    text: str, delimiter: str, *, quotes: bool = True
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield the fields of each record with its line number, up to one that is no CSV."""
    rows = csv.reader(
        StringIO(text, newline="\n"),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
        skipinitialspace=True,
    )
    while True:
        begins = rows.line_num + 1
        try:
            yield begins, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield begins, BadRow(f"is no CSV: {_quote_error(str(error))}")
            return


def _quote_error(error: str) -> str:
    """Return in words what `csv` says of a quote."""
    if "unexpected end" in error:
        return "a quote opens a text here, and none closes it"
    return (
        f"a closing quote is not the end of its column ({error}); write each quote inside a text "
        "twice"
    )
