"""Text files as people have them: UTF-8 with or without BOM, any line ends; rows of JSON.

What is no such text is refused with the line and the cure. Knows nothing of what the text is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_UTF_8: Final = b"\xef\xbb\xbf"
_NOT_TEXT: Final = {
    b"\xff\xfe\0\0": "it is UTF-32; save it as UTF-8",
    b"\0\0\xfe\xff": "it is UTF-32; save it as UTF-8",
    b"\xff\xfe": "it is UTF-16; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "it is compressed by gzip; unpack it",
    b"BZh": "it is compressed by bzip2; unpack it",
    b"\xfd7zXZ\x00": "it is compressed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd; unpack it",
    b"version https://git-lfs": "it is a pointer of Git LFS; get its file by git lfs pull",
    b"PK\x03\x04": "it is a workbook or a zip archive; save it as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "it is an Office document; save it as CSV or as plain text",
    b"%PDF": "it is a PDF; save its text as UTF-8",
    b"PAR1": "it is Parquet; save it as CSV or JSON lines",
}
"""First bytes of files that are often taken for text, each with the cure; the longer ones first."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, with the reason."""

    why: str


def read_text(path: Path) -> str:
    r"""Read a text file; its line ends become `\n`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8; the message says in which line, and what would do.
    """
    return "".join(decoded(lines_of(path.read_bytes())))


def lines_of(content: bytes) -> list[bytes]:
    r"""Divide a file's content at any kind of line end, without BOM.

    Raises:
        ValueError: it begins as no text does, or has a NUL.
    """
    for magic, why in _NOT_TEXT.items():
        if content.startswith(magic):
            raise ValueError(why)
    lines = content.removeprefix(_UTF_8).splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise ValueError(f"line {number} has a NUL, as no text does; save the file as UTF-8")
    return lines


def decoded(lines: Sequence[bytes], errors: str = "strict") -> Iterator[str]:
    r"""Yield each line as text that ends in `\n`, the last one as it ends.

    Raises:
        ValueError: a line is no UTF-8; the lines before it have been yielded.
    """
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode(errors=errors)
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise ValueError(
                f"line {number} is no UTF-8 (byte {byte:#x}); save the file as UTF-8"
            ) from error
        bare = text.rstrip("\r\n")
        yield bare if bare == text else f"{bare}\n"


def json_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    """Yield the objects of a text, each with the number of the line where it begins.

    The text is JSON lines, one array, or objects one after the other, pretty-printed or not. Lines
    may end in a comma.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    between = re.compile(r"\s*(?:,[ \t]*(?=\n|\Z)\s*)?")
    is_array = text.lstrip().startswith("[")
    at, line, counted = 0, 1, 0
    if is_array:
        between = re.compile(r"[\s,]*")
        at = text.index("[") + 1
    while (start := _end(between, text, at)) < len(text):
        line, counted = line + text.count("\n", counted, start), start
        if is_array and text[start] == "]":
            if rest := text[start + 1 :].strip():
                yield line, BadRow(f"is no JSON (the array ends before {rest[:20]!r})")
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield line, BadRow(f"is no JSON ({_json_error(error, line)})")
            if getattr(error, "lineno", line) > line:  # where the next row begins is unknown
                return
            line_end = text.find("\n", start)
            at = len(text) if line_end < 0 else line_end
            continue
        yield line, value if isinstance(value, dict | BadRow) else BadRow("is no object")
    if is_array:
        yield line, BadRow("is the last: the file ends before its array does")


def _json_error(error: Exception, line: int) -> str:
    """Return what `json` says, and where if it says so: column, and line if it is a later one."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    where = f"line {error.lineno}, " if error.lineno != line else ""
    return f"{error.msg.removesuffix(' at')} at {where}column {error.colno}"


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | BadRow:
    """Return an object, with no space around its keys; a key that comes again makes it bad."""
    row: dict[str, Any] = {}
    for key, value in pairs:
        name = clean(key)
        if name in row:
            return BadRow(f"has the key {name!r} twice")
        row[name] = value
    return row


_UNSEEN: Final = "\u200b\u2060\ufeff\u00ad"
"""Characters that are not seen, and mean nothing at the ends of a text: zero-width spaces, BOM."""


def clean(text: str) -> str:
    """Return a text without spaces, seen or not, at its ends."""
    return re.sub(rf"\A[\s{_UNSEEN}]+|[\s{_UNSEEN}]+\Z", "", text)


def half_character(text: str) -> str | None:
    """Return the first lone surrogate, which no tokenizer and no file takes; None if none is."""
    match = re.search(r"[\ud800-\udfff]", text)
    return match[0] if match else None
