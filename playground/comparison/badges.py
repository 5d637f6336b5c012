"""Badges: the kind of an answer, determined by rules over its text and its tokens."""

from __future__ import annotations

from typing import Final, Literal

import regex

from models import UNKNOWN_ID, Prompt, StopReason, looped
from playground.comparison.compare import Answer
from playground.comparison.labels import normalised, states_label
from playground.comparison.thinking import without_thinking
from playground.comparison.words import words_of

Badge = Literal[
    "answered", "continued", "echoed", "looped", "off-label", "limit", "filtered", "tool",
    "refused", "unknown", "stopped",
]  # fmt: skip

MEANS: Final[dict[Badge, str]] = {
    "answered": "it ended by itself, or where a stop text cut it",
    "continued": "it went on with the prompt's own sentence",
    "echoed": "it said the prompt again",
    "looped": "its end repeats one and the same phrase",
    "off-label": "it is none of the labels that the demonstrations use",
    "limit": "it ran into the limit of new tokens",
    "filtered": "its server's filter cut it off",
    "tool": "it called a tool",
    "refused": "it declined to answer",
    "unknown": "its server did not say why it ended, or not in words that are known here",
    "stopped": "it was stopped before its end",
}
_ENDINGS: Final[dict[StopReason, Badge]] = {
    "eos": "answered",
    "stop": "answered",
    "length": "limit",
    "loop": "looped",
    "content_filter": "filtered",
    "tool_calls": "tool",
    "refusal": "refused",
    "unknown": "unknown",
}
"""Badges of answers that no other rule applies to; after other reasons they are `stopped`."""
_LABELS = 8
"""Largest number of labels; if demonstrations have more distinct outputs, these are free text."""


def badge(answer: Answer, prompt: Prompt) -> Badge | None:
    """Return the badge of an answer, by the first rule that applies; None while it runs."""
    if answer.stopped is None:
        return None
    ending = _ENDINGS.get(answer.stopped, "stopped")
    if ending in ("filtered", "tool", "refused"):  # its text is no answer to the prompt, or cut
        return ending
    text = answer.text.strip()
    if ending == "looped" or (UNKNOWN_ID not in answer.ids and looped(answer.ids)):
        return "looped"
    if _echoed(text, prompt):
        return "echoed"
    labels = labels_of(prompt)
    if labels and ending != "stopped":
        if not states_label(without_thinking(text).partition("\n")[0], labels):
            return "off-label"
    elif _continues(answer):
        return "continued"
    return ending


def labels_of(prompt: Prompt) -> frozenset[str]:
    """Return the demonstrations' labels; empty if all outputs are equal, or are free text."""
    outputs = [shot.output.strip() for shot in prompt.demonstrations]
    labels = {normalised(output): output for output in reversed(outputs)}
    few = 2 <= len(labels) <= _LABELS and len(labels) < len(outputs)
    return frozenset(labels.values()) if few else frozenset()


def _echoed(text: str, prompt: Prompt) -> bool:
    """Whether the answer begins with the whole input or instruction, of at least three words."""
    answer_words = words_of(text)
    for field in (prompt.input, prompt.instruction):
        field_words = words_of(field)
        if len(field_words) >= 3 and answer_words[: len(field_words)] == field_words:
            return True
    return False


def _continues(answer: Answer) -> bool:
    """Whether the answer continues the prompt's last line, with punctuation or in lower case."""
    if not answer.sent.pieces:  # a server may have put its own template after the prompt
        return False
    if answer.sent.text.endswith(("\n", ":")):  # the prompt ends with a template or a cue
        return False
    return bool(regex.match(r" ?[,;:.!?)、。，；：！？）]| ?\p{Ll}", answer.text))
