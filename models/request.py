"""What is asked of a trio: one value, the same for the page, the command line and Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from models.errors import PromptError
from models.types import (
    FORMATS,
    GREEDY,
    ROLES,
    Format,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how the variants are to answer it."""

    prompt: Prompt
    sampling: Sampling = GREEDY
    format: Format = "own"
    """Each variant in its own format, or the same bytes to all."""
    stop_texts: bool = True
    """End the answers of text variants where the layout would begin again."""
    strengths: Strengths = field(default_factory=dict)
    """Scale of each variant's adapter, from 0 (the base) to 1.5; 1 is as trained."""
    roles: Collection[Role] = ROLES
    """The variants that answer."""
    labels: Sequence[str] = ()
    """Each label's log-probability after the prompt is computed before a variant answers."""
    forced_prefix: Sequence[int] = ()
    """Token ids that every answer begins with; they are not yielded again."""
    deadline_s: float | None = None
    """Seconds, from the beginning of its turn, after which answers end as they are."""

    def __post_init__(self) -> None:
        """Refuse an unknown format.

        Raises:
            PromptError: there is none of that name.
        """
        check_format(self.format)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A text whose tokens' losses are asked for: a prompt, and what follows it."""

    prompt: Prompt
    format: Format = "same"
    """Each variant in its own format, or the same bytes to all."""
    continuation: Mapping[Role, Sequence[TokenPiece]] = field(default_factory=dict)
    """Tokens that follow each variant's prompt; none for a variant that is not in it."""
    top: int = 0
    """How many of the most likely tokens are wanted of each distribution, from 0 to 64."""
    sampling: Sampling = GREEDY
    """For the probabilities after the sampler."""
    strengths: Strengths = field(default_factory=dict)
    """Scale of each variant's adapter."""
    roles: Collection[Role] = ROLES
    """The variants that score the text."""

    def __post_init__(self) -> None:
        """Refuse an unknown format.

        Raises:
            PromptError: there is none of that name.
        """
        check_format(self.format)


def check_format(format: str) -> None:
    """Refuse an unknown format.

    Raises:
        PromptError: there is none of that name.
    """
    if format not in FORMATS:
        raise PromptError(f"There is no format {format!r}. There are: {', '.join(FORMATS)}.")
