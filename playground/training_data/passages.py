"""Cuts raw texts into passages: paragraphs of a useful length, each with its heading and source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models import PromptError

MIN_WORDS, MAX_WORDS = 25, 220
"""Number of words in a passage; a shorter paragraph is joined to the next one under its heading."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a text, with its heading and source."""

    text: str
    heading: str
    source: str
    """File name and number of the line where the passage begins."""


def read_passages(paths: Iterable[Path]) -> list[Passage]:
    """Read text files and cut them into passages.

    A `.jsonl` file has an object with a "text" on each line. Any other file is UTF-8 text; its
    headings begin with # or are short lines without punctuation at their end.

    Raises:
        PromptError: a file cannot be read, a line is no object with a "text", or no text is long
            enough.
    """
    passages: list[Passage] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{path}: cannot be read: {error}.") from error
        if path.suffix.lower() == ".jsonl":
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    record = _text_of(line, f"{path.name}: line {number}")
                    passages += [
                        replace(passage, source=f"{path.name}:{number}")
                        for passage in _cut(record, path.name)
                    ]
        else:
            passages += _cut(text, path.name)
    if not passages:
        raise PromptError(f"There is no passage of {MIN_WORDS} words or more in these texts.")
    return passages


def _text_of(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise PromptError(f'{where}: is no object with a "text".')
    return text


def _cut(text: str, name: str, line: int = 1) -> Iterator[Passage]:
    heading, paragraphs, first_line = "", "", line
    for paragraph in re.split(r"(\n\s*\n)", text):
        stripped = " ".join(paragraph.split())
        if stripped and _is_heading(stripped):
            yield from _passages(paragraphs, heading, f"{name}:{first_line}")
            heading, paragraphs = stripped.lstrip("# "), ""
        elif stripped:
            if not paragraphs:
                first_line = line
            paragraphs = f"{paragraphs} {stripped}".strip()
            if len(paragraphs.split()) >= MIN_WORDS:
                yield from _passages(paragraphs, heading, f"{name}:{first_line}")
                paragraphs = ""
        line += paragraph.count("\n")
    yield from _passages(paragraphs, heading, f"{name}:{first_line}")


def _is_heading(line: str) -> bool:
    return line.startswith("#") or (len(line.split()) <= 10 and line[-1].isalnum())


def _passages(text: str, heading: str, source: str) -> Iterator[Passage]:
    """Cut a paragraph between sentences into passages of at most `MAX_WORDS` words.

    A longer sentence stays whole; a rest of fewer than `MIN_WORDS` words is dropped.
    """
    chunk: list[str] = []
    for sentence in sentences(text):
        if chunk and len(" ".join([*chunk, sentence]).split()) > MAX_WORDS:
            yield Passage(" ".join(chunk), heading, source)
            chunk = []
        chunk.append(sentence)
    rest = " ".join(chunk)
    if len(rest.split()) >= MIN_WORDS:
        yield Passage(rest, heading, source)


def sentences(text: str) -> list[str]:
    """Split a text into sentences."""
    parts = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])", text.strip())
    return [sentence for sentence in parts if sentence]
