"""Rows of a batch, and what a scheduler asks of an engine. Knows ids, not text; loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from models.types import MAX_STRENGTH, Sampling


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """One prompt under one adapter."""

    ids: tuple[int, ...]
    adapter: int = 0
    """Number in the stack; 0 is the base."""
    strength: float = 1.0
    """Scales the adapter: 0 is the base, 1 as trained."""

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ValueError: there is no token, or the strength is out of its range.
        """
        if not self.ids:
            raise ValueError("A row needs at least one token.")
        if not 0 <= self.strength <= MAX_STRENGTH:
            raise ValueError(f"strength is {self.strength}; it goes from 0 to {MAX_STRENGTH}.")

    @property
    def carries(self) -> tuple[int, float]:
        """Adapter and strength; the base is always (0, 1.0)."""
        return (self.adapter, self.strength) if self.adapter and self.strength else (0, 1.0)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The next token of a row."""

    id: int
    logprob: float
    """In nats, under the model before temperature and truncation.

    With a screened head the likely tokens are exact, and the mass of the others is the copy's.
    """


@dataclass(frozen=True, slots=True)
class TokenIdDistribution:
    """The distribution after one token, and how what came stood in it."""

    ids: tuple[int, ...]
    """The likeliest first."""
    p: tuple[float, ...]
    sampled: tuple[float, ...]
    """The same after temperature, top-k and top-p."""
    loss: float | None
    """-log p of the token that came; None where none did."""
    rank: int | None
    """Its place among all tokens, from 1."""


R = TypeVar("R")
"""What an engine holds of a row while it runs; its own affair."""


class SequenceEngine(Protocol[R]):
    """Runs rows; `prefill` and `launch` are one pass each."""

    def begin(self, row: SequenceSpec, sampling: Sampling) -> R:
        """Take a row in."""
        ...

    def prefill(self, running: R) -> SampledToken | None:
        """Feed a chunk of the row's prompt; returns the first token after the last chunk."""
        ...

    def launch(self, rows: Sequence[R]) -> Callable[[], list[list[SampledToken]]]:
        """Begin a step; what it returns waits for the next tokens of each row, one at least."""
        ...

    def rank(self, running: R, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each continuation of a prompt that has just come in."""
        ...

    def end(self, running: R, keep: bool = True) -> None:
        """Take a row out; what its prompt holds may serve another, if that is to be kept."""
        ...
