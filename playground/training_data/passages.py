"""Cuts raw texts into passages: paragraphs of a useful length, each with its heading and source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import regex

from models import BadRow, PromptError, half_character, json_rows, read_text

MIN_WORDS, MAX_WORDS = 25, 220
"""Number of words in a passage; a shorter paragraph is joined to the next one under its heading."""
_JSON = (".json", ".jsonl", ".jsonlines", ".ndjson")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
"""A character of a script that writes no spaces between words; each counts as a word."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a text, with its heading and source."""

    text: str
    heading: str
    source: str
    """File name and number of the line where the passage begins."""


def read_passages(paths: Iterable[Path]) -> list[Passage]:
    """Read text files and cut them into passages.

    A JSON file (lines or an array) has objects with a "text". Any other file is UTF-8 text; its
    headings begin with # or are short lines without punctuation at their end.

    Raises:
        PromptError: a file cannot be read, a row is no object with a "text", or no text is long
            enough.
    """
    passages: list[Passage] = []
    for path in paths:
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            raise PromptError(f"{path}: cannot be read: {error}.") from error
        if path.suffix.lower() in _JSON:
            for number, row in json_rows(text):
                record = _text_of(row, f"{path.name}: line {number}")
                passages += [
                    replace(passage, source=f"{path.name}:{number}")
                    for passage in _cut(record, path.name)
                ]
        else:
            passages += _cut(text, path.name)
    if not passages:
        raise PromptError(f"There is no passage of {MIN_WORDS} words or more in these texts.")
    return passages


def _text_of(row: dict[str, Any] | BadRow, where: str) -> str:
    if isinstance(row, BadRow):
        raise PromptError(f'{where}: {row.why}; it must be an object with a "text".')
    text = row.get("text")
    if not isinstance(text, str):
        has = f"; it has: {', '.join(row)}" if row and "text" not in row else ""
        raise PromptError(f'{where}: is no object with a "text"{has}.')
    if half := half_character(text):
        raise PromptError(f"{where}: text has half a character ({half!r}), which no model reads.")
    return text


def _word_count(text: str) -> int:
    return sum(max(1, len(_UNSPACED.findall(word))) for word in text.split())


def _cut(text: str, name: str, line: int = 1) -> Iterator[Passage]:
    heading, paragraphs, first_line = "", "", line
    for paragraph in regex.split(r"(\n\s*\n)", text):
        stripped = " ".join(paragraph.split())
        if stripped and _is_heading(stripped):
            yield from _passages(paragraphs, heading, f"{name}:{first_line}")
            heading, paragraphs = stripped.lstrip("# "), ""
        elif stripped:
            if not paragraphs:
                first_line = line
            paragraphs = f"{paragraphs} {stripped}".strip()
            if _word_count(paragraphs) >= MIN_WORDS:
                yield from _passages(paragraphs, heading, f"{name}:{first_line}")
                paragraphs = ""
        line += paragraph.count("\n")
    yield from _passages(paragraphs, heading, f"{name}:{first_line}")


def _is_heading(line: str) -> bool:
    return line.startswith("#") or (_word_count(line) <= 10 and line[-1].isalnum())


def _passages(text: str, heading: str, source: str) -> Iterator[Passage]:
    """Cut a paragraph between sentences into passages of at most `MAX_WORDS` words.

    A longer sentence stays whole; a rest of fewer than `MIN_WORDS` words is dropped.
    """
    chunk: list[str] = []
    for sentence in sentences(text):
        if chunk and _word_count(_joined([*chunk, sentence])) > MAX_WORDS:
            yield Passage(_joined(chunk), heading, source)
            chunk = []
        chunk.append(sentence)
    rest = _joined(chunk)
    if _word_count(rest) >= MIN_WORDS:
        yield Passage(rest, heading, source)


def sentences(text: str) -> list[str]:
    """Split a text into sentences."""
    parts = regex.split(r"(?<=[.!?])\s+(?=[\p{Lu}0-9\"'(])|(?<=[。！？])\s*", text.strip())
    return [sentence for sentence in parts if sentence]


def _joined(parts: Sequence[str]) -> str:
    """Join sentences, with spaces in scripts that write them."""
    return "".join(
        part if n == 0 or parts[n - 1].endswith(("。", "！", "？")) else f" {part}"
        for n, part in enumerate(parts)
    )
