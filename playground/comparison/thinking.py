"""Thinking that a model writes before its answer, in the tags that models are known to use."""

from __future__ import annotations

import regex

_TAG = r"think|thinking|thought|reasoning|analysis|scratchpad|reflection|seed:think"
_THOUGHTS = regex.compile(
    rf"\A.*(?:</(?:{_TAG})>|◁/think▷|(?-i:\[/THINK\])|<\|end_of_thought\|>)"
    r"|(?:<(?:think|thinking|thought|seed:think)>|◁think▷|(?-i:\[THINK\])|<\|begin_of_thought\|>).*",
    regex.DOTALL | regex.IGNORECASE,
)
"""All up to the last end tag, as its beginning may be the template's; else all from a tag on."""


def without_thinking(answer: str) -> str:
    """Return an answer without the thinking before it; nothing is left of thinking with no end."""
    rest: str = _THOUGHTS.sub("", answer)
    return rest.strip()
