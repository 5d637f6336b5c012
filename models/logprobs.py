"""Next-token distributions, and what the tokens of a text cost a variant: loss and rank.

Plain values; the numbers come from `Backend.score`.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.types import Role, TokenPiece

MAX_TOP = 64
"""Most likely tokens of a distribution that are computed in full precision, and may be returned."""


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
    """The next-token distribution after one token, and how the token that came stood in it."""

    top: tuple[TopToken, ...]
    """The most likely tokens, the most likely first."""
    loss: float | None
    """-log p of the token that came, in nats; None after the last one."""
    rank: int | None
    """Place of the token that came among all tokens; 1 is the most likely."""

    @property
    def remaining(self) -> float:
        """Probability of all tokens outside the top."""
        return max(0.0, 1.0 - sum(token.p for token in self.top))


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One variant's loss and rank of each token of a text, as far as they are computed."""

    role: Role
    pieces: tuple[TokenPiece, ...]
    """All tokens, the prompt's first. One piece, where a server tells what comes next alone."""
    prompt_tokens: int
    after: tuple[TokenDistribution, ...]
    """The distribution after each token; servers give no ranks and nothing after the sampler."""

    @property
    def done(self) -> bool:
        """Whether every token is scored."""
        return len(self.after) == len(self.pieces)

    @property
    def losses(self) -> tuple[float | None, ...]:
        """Loss of each token, in nats, as far as it is known; nothing precedes the first."""
        return (None, *(token.loss for token in self.after[: len(self.pieces) - 1]))

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each token among all; 1 was the most likely."""
        return (None, *(token.rank for token in self.after[: len(self.pieces) - 1]))


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why a variant's scores are not to be had."""

    reason: str


Scores = dict[Role, TokenScores | Unavailable]
"""What is known so far of each variant; a variant that has not begun is not in it."""
