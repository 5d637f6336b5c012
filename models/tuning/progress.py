"""The progress of a training run. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """Figures of one optimizer step."""

    done: int
    """Number of the step, from 1."""
    total: int
    """Number of steps of its stage."""
    loss: float
    """Mean over the supervised tokens, or over the pairs of a second stage, in nats."""
    tokens: int
    """Tokens of the batch, padding included."""
    seconds: float

    def __str__(self) -> str:
        """Return loss and speed."""
        return f"loss {self.loss:.3f} · {self.tokens / self.seconds:.0f} tok/s"


@dataclass(frozen=True, slots=True)
class Answered:
    """Progress of the answers that a model gives before its second stage."""

    done: int
    """Number of prompts that have been answered."""
    total: int
    seconds: float
    """What the last of them took."""

    def __str__(self) -> str:
        """Return what is done."""
        return "answering training prompts"
