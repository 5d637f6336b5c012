"""What a text costs each variant, token by token, and where their answers part. Pure functions.

The numbers come from `Backend.score`, by way of `score_text`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import UNKNOWN_ID, PromptError, Role, Scores, TokenScores

MAX_RANK = 50
"""Ranks beyond count as equal when two variants are compared (LMdiff's idea)."""
SHOWN_TOP = 10
"""Most likely tokens that are shown of each distribution."""

TrioScores = dict[Role, TokenScores]
"""The scores of those variants that have any."""


def available(scores: Scores) -> TrioScores:
    """Return the variants' scores, without those that are unavailable."""
    return {role: result for role, result in scores.items() if isinstance(result, TokenScores)}


@dataclass(frozen=True, slots=True)
class LossSummary:
    """Losses of some tokens, summed up."""

    tokens: int
    loss: float
    """Sum over the tokens, in nats."""
    mean_loss: float
    """Nats per token."""
    perplexity: float
    """exp of the mean loss."""
    bits_per_byte: float | None
    """Comparable between tokenizers; None where the tokens are no text."""

    def record(self) -> dict[str, Any]:
        """Return the summary as JSON-ready values."""
        return {
            "tokens": self.tokens,
            "nats": self.loss,
            "nats_per_token": self.mean_loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
        }


def loss_summary(scores: TokenScores, answer: bool = False) -> LossSummary | None:
    """Sum up the losses of a whole text, or of what follows the prompt alone; None for none."""
    begin = max(1, scores.prompt_tokens if answer else 1)
    losses = [loss for loss in scores.losses[begin:] if loss is not None]
    size = sum(len(piece.data) for piece in scores.pieces[begin:][: len(losses)])
    return summarise(losses, size) if losses else None


def summarise(losses: Sequence[float], size: int) -> LossSummary:
    """Sum up losses, one at least.

    Args:
        losses: of each token, in nats.
        size: bytes of the tokens' text.
    """
    total = math.fsum(losses)
    mean = total / len(losses)
    bits_per_byte = total / math.log(2) / size if size else None
    return LossSummary(len(losses), total, mean, math.exp(min(mean, 700.0)), bits_per_byte)


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """How one token stood with two variants."""

    p: float
    """Probability under ours less that under theirs."""
    rank: int
    """Their rank less ours, both clamped: above 0, ours expected the token more."""


def token_differences(ours: TokenScores, theirs: TokenScores) -> list[TokenDifference | None]:
    """Compare two variants, token by token of ours; None where they do not read the same token.

    Where the whole texts are equal all of it is compared, else what follows the prompts.
    """
    shift = theirs.prompt_tokens - ours.prompt_tokens
    first = ours.prompt_tokens
    if [piece.id for piece in ours.pieces] == [piece.id for piece in theirs.pieces]:
        first = shift = 0
    differences: list[TokenDifference | None] = [None] * len(ours.pieces)
    for place in range(first, len(ours.pieces)):
        mine, other = _loss_and_rank(ours, place), _loss_and_rank(theirs, place + shift)
        if not mine or not other:
            continue
        if ours.pieces[place].id == theirs.pieces[place + shift].id != UNKNOWN_ID:
            differences[place] = TokenDifference(
                math.exp(-mine[0]) - math.exp(-other[0]),
                min(other[1], MAX_RANK) - min(mine[1], MAX_RANK),
            )
    return differences


def _loss_and_rank(scores: TokenScores, place: int) -> tuple[float, int] | None:
    """Return loss and rank of a token, once they are known."""
    if not 0 < place <= len(scores.distributions):
        return None
    token = scores.distributions[place - 1]
    return None if token.loss is None or token.rank is None else (token.loss, token.rank)


def departure(scores: TokenScores) -> int | None:
    """Return the place of the first token after the prompt that this variant would not have said.

    Greedily: where it was not the most likely. None where the variant would have said all of it.
    """
    ranks = scores.ranks
    places = range(max(1, scores.prompt_tokens), len(ranks))
    return next((at for at in places if (rank := ranks[at]) is not None and rank > 1), None)


def lens_record(scores: TrioScores, position: int | None = None) -> dict[str, Any]:
    """Return finished scores as JSON-ready values.

    Args:
        scores: of all variants.
        position: the token after which `next` is; None is the last, below 0 counts from the end.

    Raises:
        PromptError: a variant's text has no such token.
    """
    places = places_of(scores, position)
    return {"variants": {role: _record(known, places[role]) for role, known in scores.items()}}


def places_of(scores: TrioScores, position: int | None) -> dict[Role, int]:
    """Return the place of a token in each variant's text; None is the last.

    Raises:
        PromptError: a text has no such token.
    """
    return {role: _place(known, position) for role, known in scores.items()}


def _place(scores: TokenScores, position: int | None) -> int:
    length = len(scores.distributions)
    if position is not None and (not isinstance(position, int) or isinstance(position, bool)):
        raise PromptError(f"The position is {position!r}; it must be a whole number.")
    place = length - 1 if position is None else position + length * (position < 0)
    if length == 1 and scores.pieces[0].id == UNKNOWN_ID:  # a server's next token alone
        place = 0
    if not 0 <= place < length:
        raise PromptError(
            f"There is no token {position} in the {length} tokens of {scores.role}; positions go "
            f"from 0 to {length - 1}, or from -1 back."
        )
    return place


def _record(scores: TokenScores, place: int) -> dict[str, Any]:
    whole, answer = loss_summary(scores), loss_summary(scores, answer=True)
    departs_at = departure(scores)
    top_there = scores.distributions[departs_at - 1].top if departs_at else ()
    return {
        "next": [
            {"text": token.text, "id": token.id, "p": token.p, "sampled": token.sampled}
            for token in scores.distributions[place].top
        ],
        "after": place,
        "outside": scores.distributions[place].remaining,
        "losses": [
            {"text": piece.text, "id": piece.id, "nats": loss, "rank": rank}
            for piece, loss, rank in zip(scores.pieces, scores.losses, scores.ranks, strict=True)
        ],
        "prompt_tokens": scores.prompt_tokens,
        "whole": whole and whole.record(),
        "answer": answer.record() if answer and len(scores.pieces) > scores.prompt_tokens else None,
        "parts_at": departs_at,
        "says_there": top_there[0].text if top_there else None,
    }
