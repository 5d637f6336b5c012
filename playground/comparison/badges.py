"""What an answer is, at a glance: rules over its text and its tokens, each said in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final, Literal

from models import UNKNOWN_ID, Prompt
from playground.comparison.compare import Answer

Badge = Literal["answered", "continued", "echoed", "looped", "off-label", "limit", "stopped"]

MEANS: Final[dict[Badge, str]] = {
    "answered": "it ended by itself, or where a stop text cut it",
    "continued": "it went on with the prompt's own sentence",
    "echoed": "it said the prompt again",
    "looped": "its end repeats one and the same phrase",
    "off-label": "it is none of the labels that the demonstrations use",
    "limit": "it ran into the limit of new tokens",
    "stopped": "it was stopped before its end",
}
LOOP = 12
"""Tokens that a loop has at least, and it comes round three times."""
_LABELS = 8
"""Demonstrations have labels where at most so many words answer them, one of them twice."""


def badge(answer: Answer, prompt: Prompt) -> Badge | None:
    """Return what an answer is; None while it runs. The first rule that holds."""
    if answer.stopped is None:
        return None
    text = answer.text.strip()
    if looped(answer.ids):
        return "looped"
    if _echoed(text, prompt):
        return "echoed"
    labels = labels_of(prompt)
    if labels and answer.stopped in ("eos", "stop", "length"):
        if not _names(text, labels):
            return "off-label"
    elif _continues(answer):
        return "continued"
    if answer.stopped == "length":
        return "limit"
    return "answered" if answer.stopped in ("eos", "stop") else "stopped"


def looped(ids: Sequence[int]) -> bool:
    """Whether the last tokens repeat one phrase three times, `LOOP` tokens or more together.

    Of tokens that a server told the text of alone, nothing is known.
    """
    if UNKNOWN_ID in ids:
        return False
    for period in range(1, len(ids) // 3 + 1):
        length = max(3 * period, LOOP)
        tail = ids[-length:]
        if len(tail) == length and all(tail[n] == tail[n - period] for n in range(period, length)):
            return True
    return False


def labels_of(prompt: Prompt) -> frozenset[str]:
    """Return the labels that demonstrations answer with, if they are labels."""
    outputs = [_label(shot.output) for shot in prompt.demonstrations]
    found = frozenset(outputs)
    return found if 2 <= len(found) <= _LABELS and len(found) < len(outputs) else frozenset()


def _names(text: str, labels: Collection[str]) -> bool:
    return _label(text.partition("\n")[0]) in labels


def _label(text: str) -> str:
    return text.strip().strip(".").strip().lower()


def _echoed(text: str, prompt: Prompt) -> bool:
    """Whether it begins with the whole of what was asked, three words or more."""
    said = _words(text)
    for asked in (prompt.input, prompt.instruction):
        words = _words(asked)
        if len(words) >= 3 and said[: len(words)] == words:
            return True
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _continues(answer: Answer) -> bool:
    """Whether the last line of what was sent goes on: with a mark, or with a small letter."""
    if not answer.sent.pieces:  # a server's own template may follow what it was sent
        return False
    if answer.sent.text.endswith(("\n", ":")):  # a template, or a cue
        return False
    return bool(re.match(r" ?[,;:.!?)]| ?[a-z]", answer.text))
