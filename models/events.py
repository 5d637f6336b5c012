"""Events that a stream yields while variants answer. Plain, frozen values."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass

from models.types import Role, StopReason


@dataclass(frozen=True, slots=True)
class Queued:
    """The request is waiting, for its turn or for the next token."""

    place: int
    """Its place in the queue: 1 is next, 0 means that its turn has come."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """How likely each label is as the answer; comes before the variant's first token."""

    role: Role
    logprobs: tuple[float, ...]
    """Log-probability of each label, summed over its tokens, in the order of the request."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a variant's answer."""

    role: Role
    id: int
    text: str
    """Text that this token adds; empty while a character is incomplete."""
    logprob: float
    """Log-probability under the model, before temperature and truncation, in nats."""
    at_s: float
    """Seconds since the request's turn came."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Reasoning before an answer, which some servers send apart from it."""

    role: Role
    text: str
    at_s: float
    """Seconds since the request's turn came."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be known of how a server was asked, or of its answer."""

    role: Role
    text: str
    """One or two sentences."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a variant's answer."""

    role: Role
    reason: StopReason
    at_s: float
    text: str = ""
    """Rest of the answer that was withheld: a possible stop text, or an incomplete character."""
    error: str | None = None


Event = Queued | Ranked | Token | Reasoning | Note | Stop
Events = Generator[Event, Collection[Role] | None, None]
"""A running request; sending in roles cancels those, closing the generator cancels all."""
