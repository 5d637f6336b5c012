"""Loss summaries of token scores, and comparison of variants token by token. Pure functions.

The scores come from `Backend.score`, through `score_text`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models import UNKNOWN_ID, PromptError, Role, Scores, TokenScores

MAX_RANK = 50
"""Larger ranks are clamped to this one when two variants are compared (as in LMdiff)."""
SHOWN_TOP = 10
"""Number of most likely tokens shown of each distribution."""

TrioScores = dict[Role, TokenScores]
"""Scores by variant, without the variants that have none."""


def available(scores: Scores) -> TrioScores:
    """Return the scores without the variants whose scores are unavailable."""
    return {role: result for role, result in scores.items() if isinstance(result, TokenScores)}


@dataclass(frozen=True, slots=True)
class LossSummary:
    """Total and mean loss over a span of tokens."""

    tokens: int
    loss: float
    """Sum over the tokens, in nats."""
    mean_loss: float
    """Nats per token."""
    perplexity: float
    """exp of the mean loss."""
    bits_per_byte: float | None
    """Comparable between tokenizers; None if the tokens have no text."""

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
    """Summarise the losses of a whole text, or only of the answer; None if no loss is known."""
    begin = max(1, scores.prompt_tokens if answer else 1)
    losses = [loss for loss in scores.losses[begin:] if loss is not None]
    size = sum(len(piece.data) for piece in scores.pieces[begin:][: len(losses)])
    return summarise(losses, size) if losses else None


def summarise(losses: Sequence[float], size: int) -> LossSummary:
    """Summarise losses.

    Args:
        losses: loss of each token, in nats; at least one.
        size: length of the tokens' text, in bytes.
    """
    total = math.fsum(losses)
    mean = total / len(losses)
    bits_per_byte = total / math.log(2) / size if size else None
    return LossSummary(len(losses), total, mean, math.exp(min(mean, 700.0)), bits_per_byte)


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """Difference between two variants' predictions of the same token."""

    p: float
    """Probability under our variant minus that under theirs."""
    rank: int
    """Their rank minus ours, both clamped; positive if our variant ranks the token higher."""


def token_differences(ours: TokenScores, theirs: TokenScores) -> list[TokenDifference | None]:
    """Compare two variants at each token of ours; None where tokens differ or are unscored.

    If the whole token sequences are equal, all tokens are compared, else those after the prompts.
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
    """Return loss and rank of a token; None if they are unknown."""
    if not 0 < place <= len(scores.distributions):
        return None
    token = scores.distributions[place - 1]
    return None if token.loss is None or token.rank is None else (token.loss, token.rank)


def departure(scores: TokenScores) -> int | None:
    """Return the index of the first answer token that is not this variant's most likely one.

    There its greedy answer would depart from the text; None if it would not.
    """
    ranks = scores.ranks
    places = range(max(1, scores.prompt_tokens), len(ranks))
    return next((at for at in places if (rank := ranks[at]) is not None and rank > 1), None)


def lens_record(scores: TrioScores, position: int | None = None) -> dict[str, Any]:
    """Return finished scores as JSON-ready values.

    Args:
        scores: scores by variant.
        position: index of the token whose next-token distribution is returned as `next`; None is
            the last token, and negative values count from the end.

    Raises:
        PromptError: the position is outside a variant's text.
    """
    places = places_of(scores, position)
    return {"variants": {role: _record(known, places[role]) for role, known in scores.items()}}


def places_of(scores: TrioScores, position: int | None) -> dict[Role, int]:
    """Convert a position, as in `lens_record`, to an index into each variant's tokens.

    Raises:
        PromptError: the position is outside a variant's text, or not a whole number.
    """
    return {role: _place(known, position) for role, known in scores.items()}


def _place(scores: TokenScores, position: int | None) -> int:
    length = len(scores.distributions)
    if position is not None and (not isinstance(position, int) or isinstance(position, bool)):
        raise PromptError(f"The position is {position!r}; it must be a whole number.")
    place = length - 1 if position is None else position + length * (position < 0)
    if length == 1 and scores.pieces[0].id == UNKNOWN_ID:  # a server's next token only
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
