"""Finds the label that an answer names; the rule of the Evaluate tab and of the badges.

The rule is told in docs/own-models.md: spellings that mean the same are equal, a label stands
between word borders, the longer of two overlapping labels counts, and of those that no negation
governs and that are no choice, the one that is stated most firmly, then the first.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from playground.comparison.label_context import Match, choices, is_negated, next_example, rank
from playground.comparison.label_patterns import (
    is_set_apart,
    loose_pattern_of,
    pattern_of,
    plain_number,
)
from playground.comparison.label_words import COPULA
from playground.comparison.thinking import without_thinking

_SAME = str.maketrans(
    dict.fromkeys("‘’‛ʼ′´＇", "'")
    | dict.fromkeys("‐‑‒–—―−", "-")
    | dict.fromkeys("“”„‟«»「」『』", '"')
    | {"İ": "I", "ı": "i", "№": "#"}
)
"""Apostrophes, dashes and quotes become the ASCII one. So do the letters İ and ı of Turkish, since
folding of case does not know the language."""
_MARKS = " \n\t.,:;!?\"'`*()[]_。、，：；！？《》【】…¿¡।؟،؛"
_INVISIBLE = regex.compile(r"[\p{Cf}\uFE0E\uFE0F\u20E3]")
_FRAME = regex.compile(
    rf"\W*(?:[^\n]*[:=]|(?:\w+\W+){{0,5}}(?:{COPULA}\b|(?<=')(?:s|re)\b)"
    r"|[^\n]{0,12}[是为は]"
    r"|\s)?[\W_]*",
    regex.IGNORECASE | regex.WORD,
)
"""What an answer may say before its label and still be that label alone: "The answer is"."""


def normalised(text: str) -> str:
    """Return a text for comparison: NFKC, no case, single spaces, no marks around it.

    Kinds of apostrophes, dashes and decimal digits are equal, and invisible characters are
    dropped; `1`, `+1` and `1.0` are one number. A text of marks alone stays, such as the label "?".
    """
    return _CASELESS.key(text)


def label_of(answer: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer names; None if it names none.

    Of labels that overlap in the answer the longest counts, and of the others the first of those
    that the answer states most firmly ("Rating: 5"). Labels in a choice ("A or B") are not named,
    nor is one that a negation governs: "not entailment" is `not entailment`, or no label. Thinking
    is no answer.
    """
    return _finder(tuple(labels)).find(answer)


def is_valid(answer: str, labels: Sequence[str], ended: bool) -> bool:
    """Whether an answer is a label and nothing else, and ended by itself."""
    finder = _finder(tuple(labels))
    return ended and finder.spelling.key(answer) in finder.keys


def states_label(answer: str, labels: Collection[str]) -> bool:
    """Whether an answer names a label and hardly more: "The answer is good.", but not "good film".

    A number or a single letter is only found where it is set apart, so that naming it is enough.
    """
    finder = _finder(tuple(labels))
    if any(is_set_apart(key) for key in finder.keys):
        return finder.find(answer) is not None
    text = finder.spelling.clean(answer)
    match = finder.first(text)
    if match is None:
        return False
    start, end, _ = match
    return bool(_FRAME.fullmatch(text, 0, start)) and not text[end:].strip(_MARKS)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """A way to spell texts alike."""

    clean: Callable[[str], str]
    has_case: bool = False

    def key(self, text: str) -> str:
        """Return what two texts have in common that are equal in this spelling."""
        core = self.core(text)
        return core if self.has_case else plain_number(core.casefold())

    def core(self, text: str) -> str:
        """Return a text with its case, and without the marks around it unless it has no others."""
        cleaned = " ".join(self.clean(text).split())
        return cleaned.strip(_MARKS) or cleaned


_FRACTION = regex.compile(r"(?:(\d+)\s?)?([¼½¾⅓⅔⅛⅜⅝⅞])|(\d+)\s([123])/([234])(?![\d/])")


def _decimal(match: Any) -> str:
    """Return 3½, or 3 1/2, as 3.5."""
    vulgar = match[2]
    part = unicodedata.numeric(vulgar) if vulgar else int(match[4]) / int(match[5])
    return f"{int(match[1] or match[3] or 0) + part:.4g}"


def _cleaned(text: str) -> str:
    composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", without_thinking(text)))
    decimal = _FRACTION.sub(_decimal, composed)
    text = unicodedata.normalize("NFKC", decimal.translate(_SAME))  # NFKC takes an acute apart
    text = regex.sub(r"(?<=\p{L})`(?=\p{L})", "'", _single_spaces(text))
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _single_spaces(text: str) -> str:
    """Return a text with one space between words, and no empty line."""
    spaced: str = regex.sub(r"\s++", lambda run: "\n" if "\n" in run[0] else " ", text)
    return spaced


def _joined_words(text: str) -> str:
    """Clean a text, and write words that are joined by a hyphen or an underscore apart.

    A long dash joins nothing: "No—positive" denies no label.
    """
    parted = regex.sub("[—―]", " - ", text)
    joined: str = regex.sub(r"(?<=\p{L})-(?=\p{L})|_", " ", _cleaned(parted))
    return joined


def _as_is(text: str) -> str:
    return _single_spaces(unicodedata.normalize("NFC", without_thinking(text)))


_CASELESS = _Spelling(_cleaned)
_SPELLINGS = (
    _Spelling(_joined_words),
    _CASELESS,
    _Spelling(_cleaned, has_case=True),
    _Spelling(_as_is, has_case=True),
)
"""From the one that makes most texts equal to the one that makes fewest."""


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds the labels of one set."""

    spelling: _Spelling
    """The first of `_SPELLINGS` in which the labels differ from each other."""
    keys: tuple[str, ...]
    patterns: tuple[tuple[str, Any, str], ...]
    """For each label its first word without case, its compiled regular expression, and itself."""
    loose: tuple[tuple[Any, str], ...]
    """The same of numbers and letters wherever they are words: parts of a choice, "A or B"."""

    def find(self, answer: str) -> str | None:
        match = self.first(self.spelling.clean(answer))
        return match[2] if match else None

    def first(self, text: str) -> Match | None:
        """Return start, end and label of the first label that counts most in a cleaned text."""
        matches = self._matches(text)
        chosen = self._choices(text, matches)
        ranked = (
            (rank(text, *match), match)
            for match in matches
            if match not in chosen and not is_negated(text, *match[:2])
        )
        end = next_example(text)
        best: tuple[int, Match] | None = None
        for firmness, match in ranked:
            if best and match[0] > end:
                break
            if firmness is not None and (best is None or firmness < best[0]):
                best = firmness, match
            if firmness == 0:
                break
        return best[1] if best else None

    def _matches(self, text: str) -> list[Match]:
        """Return the labels in a text in order; of those that overlap, the longest."""
        folded = text.casefold()
        overlapping = [
            (*match.span(), label)
            for word, pattern, label in self.patterns
            if word in folded  # most labels of many are in no answer, and this is 20 times as fast
            for match in pattern.finditer(text)
        ]

        def longest_and_exact_first(match: Match) -> tuple[int, bool]:
            start, end, label = match
            return start - end, text[start:end] != label

        kept: list[Match] = []
        for start, end, label in sorted(overlapping, key=longest_and_exact_first):
            place = bisect(kept, (start,))
            before, after = kept[max(0, place - 1) : place], kept[place : place + 1]
            if all(other[1] <= start or end <= other[0] for other in before + after):
                kept.insert(place, (start, end, label))
        return kept

    def _choices(self, text: str, matches: Sequence[Match]) -> set[Match]:
        """Return the labels that are joined as a choice, with others in it or not."""
        by_start = {
            match.start(): (*match.span(), label)
            for pattern, label in self.loose
            for match in pattern.finditer(text)
        }
        by_start.update({match[0]: match for match in matches})
        return choices(text, list(by_start.values()), len(self.keys))


@lru_cache(maxsize=64)
def _finder(labels: tuple[str, ...]) -> _Finder:
    for spelling in _SPELLINGS:
        keys = tuple(map(spelling.key, labels))
        if len(set(keys)) == len(set(labels)):
            break
    case = 0 if spelling.has_case else regex.IGNORECASE | regex.FULLCASE
    cores = [spelling.core(label) for label in labels]
    patterns = tuple(
        (
            plain_number(core).casefold().split()[0],
            regex.compile(pattern_of(core), case | regex.W | regex.M),
            label,
        )
        for core, label in zip(cores, labels, strict=True)
        if core  # a label of invisible characters is never named
    )
    loose = tuple(
        (regex.compile(loose_pattern_of(core)), label)
        for core, label in zip(cores, labels, strict=True)
        if is_set_apart(core)
    )
    return _Finder(spelling, keys, patterns, loose)
