"""What a variant expects after every token of a text, and what the token that came cost.

Plain values and sums of them; the numbers come from `Backend.read`.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.types import TokenPiece

MAX_LIKELIEST = 64
"""Tokens of a distribution that are computed in full precision, and may be told."""


@dataclass(frozen=True, slots=True)
class TopToken:
    """One token that may come next."""

    id: int
    text: str
    p: float
    """Its probability under the model."""
    sampled: float
    """Its probability after temperature, top-k and top-p; 0 where they cut it off."""


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """What is expected after a token, and what came."""

    likeliest: tuple[TopToken, ...]
    """The likeliest first."""
    loss: float | None
    """Loss of the token that came, -log p; None after the last one."""
    rank: int | None
    """Its place among all tokens; 1 is the likeliest."""

    @property
    def outside(self) -> float:
        """The probability of all tokens that are not shown."""
        return max(0.0, 1.0 - sum(one.p for one in self.likeliest))


@dataclass(frozen=True, slots=True)
class Told:
    """What a server tells of a text, in tokens as it cuts them."""

    pieces: tuple[TokenPiece, ...]
    """The whole text as one, where the server tells what comes next alone."""
    prompt_tokens: int
    after: tuple[TokenDistribution, ...]
    """One for each piece; ranks are not told, nor what a sampler would leave."""
