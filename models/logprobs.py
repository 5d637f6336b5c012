"""Next-token distributions, and loss and rank of each token of a text under a variant.

Plain values, which `Backend.score` yields.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.types import Role, TokenPiece

MAX_TOP = 64
"""Number of most likely tokens computed in full precision; the most that can be returned."""


@dataclass(frozen=True, slots=True)
class TopToken:
    """One of the most likely next tokens."""

    id: int
    text: str
    p: float
    """Its probability under the model."""
    sampled: float
    """Its probability after temperature, top-k and top-p; 0 where they cut it off."""


@dataclass(frozen=True, slots=True)
class TokenDistribution:
    """The next-token distribution after one token, and loss and rank of the actual next token."""

    top: tuple[TopToken, ...]
    """The most likely tokens, the most likely first."""
    loss: float | None
    """-log p of the actual next token, in nats; None after the last token."""
    rank: int | None
    """Rank of the actual next token among all tokens; 1 is the most likely."""

    @property
    def remaining(self) -> float:
        """Probability of all tokens outside the top."""
        return max(0.0, 1.0 - sum(token.p for token in self.top))


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One variant's loss and rank of each token of a text, as far as they are computed."""

    role: Role
    pieces: tuple[TokenPiece, ...]
    """All tokens, the prompt's first; a single piece if a server scores only the next token."""
    prompt_tokens: int
    distributions: tuple[TokenDistribution, ...]
    """The distribution after each token; servers return no `rank` and no `sampled`."""

    @property
    def done(self) -> bool:
        """Whether every token is scored."""
        return len(self.distributions) == len(self.pieces)

    @property
    def losses(self) -> tuple[float | None, ...]:
        """Loss of each token, in nats, as far as it is known; None for the first."""
        return (None, *(token.loss for token in self.distributions[: len(self.pieces) - 1]))

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each token among all, as far as it is known; 1 is the most likely."""
        return (None, *(token.rank for token in self.distributions[: len(self.pieces) - 1]))


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The reason why a variant has no scores."""

    reason: str


Scores = dict[Role, TokenScores | Unavailable]
"""The scores so far, by variant; a variant without any yet is missing."""
