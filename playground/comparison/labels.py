"""Finds the label that an answer names; the rule of the Evaluate tab and of the badges.

The rule is told in docs/own-models.md: spellings that mean the same are equal, a label stands
between word borders, the longer of two overlapping labels counts, then the first that is stated
and that no negation governs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from playground.comparison.label_patterns import (
    is_negated,
    is_set_apart,
    is_stated,
    pattern_of,
    plain_number,
)

_SAME = str.maketrans(
    dict.fromkeys("‘’‛ʼ′´＇", "'")
    | dict.fromkeys("‐‑‒–—―−", "-")
    | dict.fromkeys("“”„‟«»「」『』", '"')
    | {"İ": "I", "ı": "i"}
)
"""Apostrophes, dashes and quotes become the ASCII one. So do the letters İ and ı of Turkish, since
folding of case does not know the language."""
_MARKS = " \n\t.,:;!?\"'`*()[]_。、，：；！？《》【】…¿¡।؟،؛"
_INVISIBLE = regex.compile(r"[\p{Cf}\uFE0E\uFE0F]")
_FRAME = regex.compile(
    r"\W*(?:[^\n]*[:=]|(?:\w+\W+){0,5}(?:(?:is|was|be|are|est|ist|es|é|è|это)\b|(?<=')(?:s|re)\b)"
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

    Of labels that overlap in the answer the longest counts, and of the others the first, or the
    first number or letter that the answer states ("Rating: 5"). A label that a negation governs is
    not named: "not entailment" is `not entailment`, or no label. Thinking is no answer.
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


_THINK = "think|thinking|thought|reasoning|reflection"
_THOUGHTS = regex.compile(
    rf"\A.*[<\[◁]/(?:{_THINK})[>\]▷]|[<\[◁](?:{_THINK})[>\]▷].*", regex.DOTALL | regex.IGNORECASE
)
"""Thinking that a model writes before its answer; a template may have written where it begins."""


def without_thinking(answer: str) -> str:
    """Return an answer without the thinking before it; nothing is left of thinking with no end."""
    rest: str = _THOUGHTS.sub("", answer)
    return rest.strip()


def _cleaned(text: str) -> str:
    composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", without_thinking(text)))
    text = unicodedata.normalize("NFKC", composed.translate(_SAME))  # NFKC takes an acute apart
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _joined_words(text: str) -> str:
    """Clean a text, and write words that are joined by a hyphen or an underscore apart."""
    joined: str = regex.sub(r"(?<=\p{L})-(?=\p{L})|_", " ", _cleaned(text))
    return joined


def _as_is(text: str) -> str:
    return unicodedata.normalize("NFC", without_thinking(text))


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

    def find(self, answer: str) -> str | None:
        match = self.first(self.spelling.clean(answer))
        return match[2] if match else None

    def first(self, text: str) -> tuple[int, int, str] | None:
        """Return start, end and label of the first label that counts in a cleaned text."""
        folded = text.casefold()
        matches = [
            (*match.span(), label)
            for word, pattern, label in self.patterns
            if word in folded  # most labels of many are in no answer, and this is 20 times as fast
            for match in pattern.finditer(text)
        ]
        kept: list[tuple[int, int, str]] = []
        for start, end, label in sorted(
            matches, key=lambda match: (match[0] - match[1], text[slice(*match[:2])] != match[2])
        ):
            if all(end <= other[0] or other[1] <= start for other in kept):
                kept.append((start, end, label))
        named = [match for match in sorted(kept) if not is_negated(text, *match[:2])]
        if any(map(is_set_apart, self.keys)):
            named.sort(key=lambda match: not is_stated(text, *match[:2]))
        return next(iter(named), None)


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
    return _Finder(spelling, keys, patterns)
