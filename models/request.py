"""Requests to a trio, the same values for the page, the command line and Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from models.errors import PromptError
from models.logprobs import MAX_TOP
from models.types import (
    FORMATS,
    GREEDY,
    MAX_STRENGTH,
    ROLES,
    Format,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
)

ENDPOINT_FIELDS = (
    "seed", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "top_k",
    "top_p", "temperature", "stream", "max_tokens",
)  # fmt: skip
"""Fields of a request to a server that it may lack, those that matter least first."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how the variants are to answer it."""

    prompt: Prompt
    sampling: Sampling = GREEDY
    format: Format = "own"
    """Each variant in its own format, or the same bytes to all."""
    stop_texts: bool = True
    """Whether answers of text variants end where they start a new demonstration."""
    strengths: Strengths = field(default_factory=dict)
    """Scale of each variant's adapter, from 0 (the base) to 1.5; 1 is as trained."""
    roles: Collection[Role] = ROLES
    """The variants that answer."""
    labels: Sequence[str] = ()
    """Labels whose log-probability after the prompt is computed before a variant answers."""
    forced_prefix: Mapping[Role, Sequence[int]] = field(default_factory=dict)
    """Token ids that each variant's answer begins with; they are not yielded again."""
    deadline_s: float | None = None
    """Seconds from the beginning of its turn after which answers are cut off."""
    stop_loops: bool = False
    """Whether an answer ends where it repeats itself (`models/text/loops.py`)."""

    def __post_init__(self) -> None:
        """Check what needs no model.

        Raises:
            PromptError: there is no such format, or a strength is out of its range.
        """
        check_format(self.format)
        check_strengths(self.strengths)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A text whose tokens are to be scored: a prompt, and an optional continuation."""

    prompt: Prompt
    format: Format = "same"
    """Each variant in its own format, or the same bytes to all."""
    continuation: Mapping[Role, Sequence[TokenPiece]] = field(default_factory=dict)
    """Tokens that follow each variant's prompt; none for a variant that is missing."""
    top: int = 0
    """Number of most likely tokens to return of each distribution, from 0 to 64."""
    sampling: Sampling = GREEDY
    """Settings for the probabilities after the sampler."""
    strengths: Strengths = field(default_factory=dict)
    """Scale of each variant's adapter."""
    roles: Collection[Role] = ROLES
    """The variants that score the text."""

    def __post_init__(self) -> None:
        """Check what needs no model.

        Raises:
            PromptError: there is no such format, or a strength or `top` is out of its range.
        """
        check_format(self.format)
        check_strengths(self.strengths)
        if type(self.top) is not int or not 0 <= self.top <= MAX_TOP:
            raise PromptError(
                f"likeliest is {self.top!r}; it must be a whole number from 0 to {MAX_TOP}."
            )


def check_format(format: str) -> None:
    """Refuse an unknown format.

    Raises:
        PromptError: there is no such format.
    """
    if format not in FORMATS:
        raise PromptError(f"There is no format {format!r}. There are: {', '.join(FORMATS)}.")


def check_strengths(strengths: Strengths) -> None:
    """Refuse a strength that is out of its range.

    Raises:
        PromptError: it is no number, or not from 0 to 1.5.
    """
    for role, strength in strengths.items():
        if not isinstance(strength, int | float) or not 0 <= strength <= MAX_STRENGTH:
            raise PromptError(
                f"The strength of {role} is {strength!r}; it goes from 0 (the base) to "
                f"{MAX_STRENGTH}."
            )
