"""What each variant expects, what a text costs it, and where answers part.

Pure: the numbers come from `Backend.read`, by way of `reading`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import UNKNOWN_ID, PromptError, Role, TokenDistribution, TokenPiece

CLAMP = 50
"""Ranks beyond are as good as equal when two variants are compared (LMdiff's idea)."""
LIKELIEST = 10
"""Tokens that are shown of each distribution."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """One variant's reading of a prompt and what follows it, as far as it has come."""

    role: Role
    pieces: tuple[TokenPiece, ...]
    """All tokens, the prompt's first."""
    prompt_tokens: int
    after: tuple[TokenDistribution, ...]
    """What is expected after each token."""

    @property
    def done(self) -> bool:
        """Whether every token has been read."""
        return len(self.after) == len(self.pieces)

    @property
    def losses(self) -> tuple[float | None, ...]:
        """Loss of each token, in nats, as far as it is known; nothing comes before the first."""
        return (None, *(one.loss for one in self.after[: len(self.pieces) - 1]))

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each token among all; 1 was the likeliest."""
        return (None, *(one.rank for one in self.after[: len(self.pieces) - 1]))

    def loss_summary(self, answer: bool = False) -> LossSummary | None:
        """Return the totals of the whole text, or of what follows the prompt alone."""
        begins = max(1, self.prompt_tokens if answer else 1)
        loss = [one for one in self.losses[begins:] if one is not None]
        size = sum(len(piece.data) for piece in self.pieces[begins:][: len(loss)])
        return loss_summary(loss, size) if loss else None


Readings = dict[Role, TokenScores]


@dataclass(frozen=True, slots=True)
class LossSummary:
    """What some tokens cost together."""

    tokens: int
    loss: float
    mean_loss: float
    perplexity: float
    """e to the nats a token."""
    bits_per_byte: float | None
    """Comparable between tokenizers; None where the tokens are no text."""


def loss_summary(losses: Sequence[float], size: int) -> LossSummary:
    """Add up losses; one at least.

    Args:
        losses: of each token, in nats.
        size: bytes of the tokens' text.
    """
    total, mean = math.fsum(losses), math.fsum(losses) / len(losses)
    perplexity = math.exp(min(mean, 700.0))
    return LossSummary(
        len(losses), total, mean, perplexity, total / math.log(2) / size if size else None
    )


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """How one token stood with two variants."""

    p: float
    """Probability under the one less that under the other."""
    rank: int
    """The other's rank less the one's, both clamped: above 0, the one expected it more."""


def token_differences(ours: TokenScores, theirs: TokenScores) -> list[TokenDifference | None]:
    """Compare two variants, token by token of ours; None where they do not read the same.

    Where the whole texts are equal all of it is compared, else what follows the prompts.
    """
    shift = theirs.prompt_tokens - ours.prompt_tokens
    first = ours.prompt_tokens
    if [one.id for one in ours.pieces] == [one.id for one in theirs.pieces]:
        first = shift = 0
    found: list[TokenDifference | None] = [None] * len(ours.pieces)
    for place in range(first, len(ours.pieces)):
        one, two = _at(ours, place), _at(theirs, place + shift)
        if one and two and ours.pieces[place].id == theirs.pieces[place + shift].id != UNKNOWN_ID:
            found[place] = _difference(one, two)
    return found


def _at(reading: TokenScores, place: int) -> tuple[float, int] | None:
    """Return loss and rank of a token, once they are known."""
    if not 0 < place <= len(reading.after):
        return None
    after = reading.after[place - 1]
    return None if after.loss is None or after.rank is None else (after.loss, after.rank)


def _difference(ours: tuple[float, int], theirs: tuple[float, int]) -> TokenDifference:
    p = math.exp(-ours[0]) - math.exp(-theirs[0])
    return TokenDifference(p, min(theirs[1], CLAMP) - min(ours[1], CLAMP))


def parting(reading: TokenScores) -> int | None:
    """Return the first token after the prompt that this variant would not have said.

    Greedy: where it was not the likeliest. None where it would have said all of it.
    """
    ranks = reading.ranks
    places = range(max(1, reading.prompt_tokens), len(ranks))
    return next((at for at in places if (rank := ranks[at]) is not None and rank > 1), None)


def lens_record(readings: Readings, position: int | None = None) -> dict[str, Any]:
    """Return finished readings as JSON-ready values.

    Args:
        readings: of all variants.
        position: the token after which `next` is told; None is the last, below 0 counts from it.

    Raises:
        PromptError: a variant's text has no such token.
    """
    places = placed(readings, position)
    return {"variants": {role: _record(one, places[role]) for role, one in readings.items()}}


def placed(readings: Readings, position: int | None) -> dict[Role, int]:
    """Return the place of a token in each variant's text; None is the last.

    Raises:
        PromptError: a text has no such token.
    """
    return {role: _placed(one, position) for role, one in readings.items()}


def _placed(one: TokenScores, position: int | None) -> int:
    length = len(one.after)
    if position is not None and (not isinstance(position, int) or isinstance(position, bool)):
        raise PromptError(f"The position is {position!r}; it must be a whole number.")
    place = length - 1 if position is None else position + length * (position < 0)
    if length == 1 and one.pieces[0].id == UNKNOWN_ID:  # a server that tells what comes next alone
        place = 0
    if not 0 <= place < length:
        raise PromptError(
            f"There is no token {position} in the {length} tokens of {one.role}; positions go from "
            f"0 to {length - 1}, or from -1 back."
        )
    return place


def _record(one: TokenScores, place: int) -> dict[str, Any]:
    whole, answer = one.loss_summary(), one.loss_summary(answer=True)
    parted = parting(one)
    return {
        "next": [
            {"text": it.text, "id": it.id, "p": it.p, "sampled": it.sampled}
            for it in one.after[place].likeliest
        ],
        "after": place,
        "outside": one.after[place].outside,
        "losses": [
            {"text": piece.text, "id": piece.id, "nats": loss, "rank": rank}
            for piece, loss, rank in zip(one.pieces, one.losses, one.ranks, strict=True)
        ],
        "prompt_tokens": one.prompt_tokens,
        "whole": loss_record(whole),
        "answer": loss_record(answer) if len(one.pieces) > one.prompt_tokens else None,
        "parts_at": parted,
        "says_there": one.after[parted - 1].likeliest[0].text
        if parted and one.after[parted - 1].likeliest
        else None,
    }


def loss_record(one: LossSummary | None) -> dict[str, Any] | None:
    """Return a loss summary as JSON-ready values; None for none."""
    if one is None:
        return None
    return {
        "tokens": one.tokens,
        "nats": one.loss,
        "nats_per_token": one.mean_loss,
        "perplexity": one.perplexity,
        "bits_per_byte": one.bits_per_byte,
    }
