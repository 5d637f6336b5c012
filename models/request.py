"""What is asked of a trio: one value, the same for the page, the command line and Python."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from models.errors import PromptError
from models.types import FORMATS, GREEDY, ROLES, Format, Prompt, Role, Sampling, Strengths


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
    """Who answers."""
    labels: Sequence[str] = ()
    """Each is ranked as what follows the prompt, before a variant answers."""
    forced_prefix: Sequence[int] = ()
    """Ids that every answer begins with; they are not told again."""
    deadline_s: float | None = None
    """Seconds, from the turn's beginning, after which answers end with what they have."""

    def __post_init__(self) -> None:
        """Refuse what is no format.

        Raises:
            PromptError: there is none of that name.
        """
        if self.format not in FORMATS:
            raise PromptError(
                f"There is no format {self.format!r}. There are: {', '.join(FORMATS)}."
            )
