"""Raw texts → passages: paragraphs of some length, each with its heading and where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models import PromptError

MIN_WORDS, MAX_WORDS = 25, 220
"""Words of a passage; shorter ones are joined to the next of their heading."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a text, and where it stands."""

    text: str
    heading: str
    source: str
    """File, and the number of the line that it begins in."""


def read_passages(paths: Iterable[Path]) -> list[Passage]:
    """Read texts and cut them into passages: paragraphs, each with the heading above it.

    A `.jsonl` file holds one text a line, under "text"; any other file is text in UTF-8, whose
    headings begin with # or are short lines with no mark at their end.

    Raises:
        PromptError: a file cannot be read, or a line of it is no object with a text.
    """
    found: list[Passage] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{path}: cannot be read: {error}.") from error
        if path.suffix.lower() == ".jsonl":
            for number, line in enumerate(text.split("\n"), 1):
                if line.strip():
                    one = _text_of(line, f"{path.name}: line {number}")
                    found += [
                        replace(passage, source=f"{path.name}:{number}")
                        for passage in _cut(one, path.name)
                    ]
        else:
            found += _cut(text, path.name)
    if not found:
        raise PromptError(f"There is no passage of {MIN_WORDS} words or more in these texts.")
    return found


def _text_of(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise PromptError(f'{where}: is no object with a "text".')
    return text


def _cut(text: str, name: str, line: int = 1) -> Iterator[Passage]:
    heading, held, begins = "", "", line
    for paragraph in re.split(r"(\n\s*\n)", text):
        stripped = " ".join(paragraph.split())
        if stripped and _is_heading(stripped):
            yield from _passages(held, heading, f"{name}:{begins}")
            heading, held = stripped.lstrip("# "), ""
        elif stripped:
            if not held:
                begins = line
            held = f"{held} {stripped}".strip()
            if len(held.split()) >= MIN_WORDS:
                yield from _passages(held, heading, f"{name}:{begins}")
                held = ""
        line += paragraph.count("\n")
    yield from _passages(held, heading, f"{name}:{begins}")


def _is_heading(line: str) -> bool:
    return line.startswith("#") or (len(line.split()) <= 10 and line[-1].isalnum())


def _passages(text: str, heading: str, source: str) -> Iterator[Passage]:
    """Cut a paragraph at sentences where it is too long; nothing shorter than the least."""
    part: list[str] = []
    for sentence in sentences(text):
        if part and len(" ".join([*part, sentence]).split()) > MAX_WORDS:
            yield Passage(" ".join(part), heading, source)
            part = []
        part.append(sentence)
    whole = " ".join(part)
    if len(whole.split()) >= MIN_WORDS:
        yield Passage(whole, heading, source)


def sentences(text: str) -> list[str]:
    """Cut a text at the ends of its sentences."""
    return [one for one in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])", text.strip()) if one]


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())
