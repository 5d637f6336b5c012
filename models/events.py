"""What happens while variants answer: the values that a stream yields. Frozen and plain."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass

from models.types import Role, StopReason


@dataclass(frozen=True, slots=True)
class Queued:
    """The comparison waits: for its turn, or for the next token."""

    place: int
    """Its place in the line: 1 is next, 0 is its turn."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """How likely each label was as what follows the prompt; comes before the first token."""

    role: Role
    logprobs: tuple[float, ...]
    """Log-probability of each label, in the order of asking: the sum over its tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a variant's answer."""

    role: Role
    id: int
    text: str
    """What this token adds to the text; empty while a character is still in pieces."""
    logprob: float
    """Log-probability under the model, before temperature and truncation, in nats."""
    at_s: float
    """Seconds since the comparison's turn came."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a variant's answer."""

    role: Role
    reason: StopReason
    at_s: float
    text: str = ""
    """What was held back and belongs to the answer after all."""
    error: str | None = None


Event = Queued | Ranked | Token | Stop
Events = Generator[Event, Collection[Role] | None, None]
"""A comparison as it runs; roles that are sent in are cancelled, closing it cancels all."""
