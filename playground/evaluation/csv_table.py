"""The text of a CSV file, and how it is to be read: its delimiter, and whether quotes are text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice

from models import BadRow, clean, decoded

csv.field_size_limit((1 << 31) - 1)  # the default, 131,072, is less than some texts

_DELIMITERS = ",;\t|"
"""Column delimiters; names such as "pos|neg" may hold the last."""
_SEP_LINE = re.compile(rb'"?sep=([,;\t|])[,;\t|]*"?\s*', re.IGNORECASE)
"""The first line of a CSV in which a spreadsheet names the delimiter."""
_OPENING = re.compile(r'(?:^|[,;\t|]) ?"')
"""A quote that opens a field."""
_BACKSLASHED = re.compile(r'\\"(?!["\',;\t|])(?=.)')
"""A quote after a backslash, which standard CSV never has inside a quoted field."""
_TRIED_ROWS = 100
"""First rows of CSV, which show its delimiter."""


@dataclass(frozen=True, slots=True)
class Table:
    """The text of a CSV file, and how it is to be read."""

    text: str
    delimiter: str
    has_quotes: bool
    """False if quotes are text."""
    skipped: int
    """Number of lines before the text."""


def table_of(lines: Sequence[bytes]) -> Table:
    """Return a file's text and how it is read; bytes that are no UTF-8 are replaced."""
    sep_line = _SEP_LINE.fullmatch(lines[0]) if lines else None
    skipped = 1 if sep_line else 0
    text = "".join(islice(decoded(lines, "replace"), skipped, None))
    if '\\"' in text and any(map(_has_backslashed_quote, text.split("\n"))):
        text = text.replace('\\"', '""')
    delimiter = sep_line[1].decode() if sep_line else _delimiter(text)
    return Table(text, delimiter, not _has_plain_quotes(text, delimiter), skipped)


def _has_backslashed_quote(line: str) -> bool:
    opening = _OPENING.search(line)
    return bool(opening and _BACKSLASHED.search(line, opening.end()))


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the header and as many of the first rows alike."""

    def fit(delimiter: str) -> tuple[bool, int, bool, int]:
        records = (fields for _, fields in islice(parsed(text, delimiter), _TRIED_ROWS))
        counts = [len(row) for row in records if isinstance(row, list) and any(map(clean, row))]
        columns = counts[0] if counts else 0
        return columns > 1, counts.count(columns), delimiter != "|", columns

    return max(_DELIMITERS, key=fit)


def _has_plain_quotes(text: str, delimiter: str) -> bool:
    """Whether quotes are text: in a table with tabs that has a row on each line.

    They are text there if they have no pairs, or pairs that would make one field of several.
    """
    rows = (line for line in text.split("\n") if line.strip())
    if delimiter != "\t" or len({row.count("\t") for row in rows}) != 1:
        return False
    return any(
        isinstance(row, BadRow) or any("\t" in field or "\n" in field for field in row)
        for _, row in parsed(text, "\t")
    )


def parsed(
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
