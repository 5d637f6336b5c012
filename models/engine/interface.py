"""The engine's interface to the scheduler. Knows token ids, not text; does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from models.types import MAX_STRENGTH, Sampling


class AdapterScale(NamedTuple):
    """The adapter that a sequence runs under, and its scale."""

    adapter: int
    """Number of the adapter among those of its base, from 1; 0 is the base alone."""
    scale: float
    """Factor on the adapter's update: 1 is as trained."""


BASE = AdapterScale(0, 1.0)
"""The base alone."""


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """One prompt to be continued, under one adapter."""

    ids: tuple[int, ...]
    """Token ids of the prompt."""
    adapter: int = 0
    """Number of the adapter; 0 is the base."""
    strength: float = 1.0
    """Scale of the adapter: 0 is the base, 1 as trained."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: `ids` is empty, or `strength` is out of range.
        """
        if not self.ids:
            raise ValueError("A sequence needs at least one token.")
        if not 0 <= self.strength <= MAX_STRENGTH:
            raise ValueError(f"strength is {self.strength}; it goes from 0 to {MAX_STRENGTH}.")

    @property
    def adapter_scale(self) -> AdapterScale:
        """Adapter and scale; `BASE` where the adapter would change nothing."""
        return AdapterScale(self.adapter, self.strength) if self.adapter and self.strength else BASE


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The next token of a sequence."""

    id: int
    logprob: float
    """Log-probability in nats, under the model before temperature and truncation.

    With a screened head, logits of likely tokens are exact; those of the tail are the 8-bit copy's.
    """


@dataclass(frozen=True, slots=True)
class TokenIdDistribution:
    """The next-token distribution after one token, and loss and rank of the actual next token."""

    ids: tuple[int, ...]
    """Ids of the most likely tokens, the most likely first."""
    p: tuple[float, ...]
    """Their probabilities under the model."""
    sampled: tuple[float, ...]
    """Their probabilities after temperature, top-k and top-p."""
    loss: float | None
    """-log p of the actual next token, in nats; None at the end of the text."""
    rank: int | None
    """Rank of the actual next token among all tokens, from 1; None at the end of the text."""


S = TypeVar("S")
"""An engine's own record of a sequence while it runs."""


class SequenceEngine(Protocol[S]):
    """Continues sequences; `prefill` and `start_step` are one forward pass each."""

    def add(self, spec: SequenceSpec, sampling: Sampling) -> S:
        """Add a sequence; nothing is computed yet."""
        ...

    def prefill(self, sequence: S) -> SampledToken | None:
        """Feed the next chunk of the prompt; return the first new token after the last chunk."""
        ...

    def start_step(self, sequences: Sequence[S]) -> Callable[[], list[list[SampledToken]]]:
        """Start a decode step; return a function that waits for each sequence's tokens, ≥ 1."""
        ...

    def score_continuations(
        self, sequence: S, continuations: Sequence[Sequence[int]]
    ) -> list[float]:
        """Return the log-probability of each continuation of a prompt that was just prefilled."""
        ...

    def remove(self, sequence: S, keep: bool = True) -> None:
        """Remove a sequence; if `keep`, its prompt's KV cache may be reused by another."""
        ...
