"""What each variant expects, what a text costs it, and where answers part.

The numbers come from `Backend.read`; what is made of them here is pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models import (
    GREEDY,
    NONE,
    UNKNOWN_ID,
    After,
    Backend,
    Endpoint,
    Format,
    ModelError,
    Piece,
    Prompt,
    PromptError,
    Role,
    Sampling,
    Sent,
    Strengths,
)
from playground.compare import begin, finish, follow

CLAMP = 50
"""Ranks beyond are as good as equal when two variants are compared (LMdiff's idea)."""
LIKELIEST = 10
"""Tokens that are shown of each distribution."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One variant's reading of a prompt and what follows it, as far as it has come."""

    role: Role
    pieces: tuple[Piece, ...]
    """All tokens, the prompt's first."""
    prompt_tokens: int
    after: tuple[After, ...]
    """What is expected after each token."""

    @property
    def done(self) -> bool:
        """Whether every token has been read."""
        return len(self.after) == len(self.pieces)

    @property
    def losses(self) -> tuple[float | None, ...]:
        """Loss of each token, in nats, as far as it is known; nothing comes before the first."""
        return (None, *(one.nats for one in self.after[: len(self.pieces) - 1]))

    @property
    def ranks(self) -> tuple[int | None, ...]:
        """Rank of each token among all; 1 was the likeliest."""
        return (None, *(one.rank for one in self.after[: len(self.pieces) - 1]))

    def sums(self, answer: bool = False) -> Sums | None:
        """Return the totals of the whole text, or of what follows the prompt alone."""
        begins = max(1, self.prompt_tokens if answer else 1)
        nats = [one for one in self.losses[begins:] if one is not None]
        size = sum(len(piece.data) for piece in self.pieces[begins:][: len(nats)])
        return sums(nats, size) if nats else None


Readings = dict[Role, Reading]


@dataclass(frozen=True, slots=True)
class Sums:
    """What some tokens cost together."""

    tokens: int
    nats: float
    nats_per_token: float
    perplexity: float
    """e to the nats a token."""
    bits_per_byte: float | None
    """Comparable between tokenizers; None where the tokens are no text."""


def sums(nats: Sequence[float], size: int) -> Sums:
    """Add up losses; one at least.

    Args:
        nats: of each token.
        size: bytes of the tokens' text.
    """
    total, mean = math.fsum(nats), math.fsum(nats) / len(nats)
    perplexity = math.exp(min(mean, 700.0))
    return Sums(len(nats), total, mean, perplexity, total / math.log(2) / size if size else None)


@dataclass(frozen=True, slots=True)
class Difference:
    """How one token stood with two variants."""

    p: float
    """Probability under the one less that under the other."""
    rank: int
    """The other's rank less the one's, both clamped: above 0, the one expected it more."""


def differences(ours: Reading, theirs: Reading) -> list[Difference | None]:
    """Compare two variants, token by token of ours; None where they do not read the same.

    Where the whole texts are equal all of it is compared, else what follows the prompts.
    """
    shift = theirs.prompt_tokens - ours.prompt_tokens
    first = ours.prompt_tokens
    if [one.id for one in ours.pieces] == [one.id for one in theirs.pieces]:
        first = shift = 0
    found: list[Difference | None] = [None] * len(ours.pieces)
    for place in range(first, len(ours.pieces)):
        one, two = _at(ours, place), _at(theirs, place + shift)
        if one and two and ours.pieces[place].id == theirs.pieces[place + shift].id:
            found[place] = _difference(one, two)
    return found


def _at(reading: Reading, place: int) -> tuple[float, int] | None:
    """Return loss and rank of a token, once they are known."""
    if not 0 < place <= len(reading.after):
        return None
    after = reading.after[place - 1]
    return None if after.nats is None or after.rank is None else (after.nats, after.rank)


def _difference(ours: tuple[float, int], theirs: tuple[float, int]) -> Difference:
    p = math.exp(-ours[0]) - math.exp(-theirs[0])
    return Difference(p, min(theirs[1], CLAMP) - min(ours[1], CLAMP))


def parting(reading: Reading) -> int | None:
    """Return the first token after the prompt that this variant would not have said.

    Greedy: where it was not the likeliest. None where it would have said all of it.
    """
    ranks = reading.ranks
    places = range(max(1, reading.prompt_tokens), len(ranks))
    return next((at for at in places if (rank := ranks[at]) is not None and rank > 1), None)


def read(
    trio: Backend,
    prompt: Prompt,
    *,
    format: Format = "same",
    answer: Sequence[Piece] = (),
    likeliest: int = LIKELIEST,
    sampling: Sampling = GREEDY,
    strengths: Strengths = NONE,
) -> Iterator[Readings]:
    """Yield the variants' readings of a prompt and of what follows it, as they grow.

    Args:
        trio: what reads.
        prompt: what was asked.
        format: each variant in its own format, or the same bytes to all.
        answer: tokens that follow the prompt, the same for all.
        likeliest: tokens told of each distribution.
        sampling: for the probabilities after the sampler.
        strengths: scales of the adapters.

    Raises:
        PromptError: it cannot be sent, or the answer's tokens mean something else to a variant.
    """
    sent = {role: one for role, one in trio.sent(prompt, format).items() if one.pieces}
    if not sent:
        raise PromptError(
            "Every variant of this trio is an endpoint, none of which tells what a text costs it."
        )
    if answer:
        check_vocabularies(sent)
    pieces = {role: (*one.pieces, *answer) for role, one in sent.items()}
    ids = {role: [piece.id for piece in some] for role, some in pieces.items()}
    for found in trio.read(ids, likeliest, sampling, strengths):
        yield {
            role: Reading(role, pieces[role], len(sent[role].pieces), tuple(after))
            for role, after in found.items()
        }


def prompt_of(text: str) -> Prompt:
    """Make a prompt of a plain text, of any length.

    Raises:
        PromptError: it is empty.
    """
    if not text:
        raise PromptError("The text is empty. Type what the variants are to read.")
    return Prompt(text)


def answer_of(
    trio: Backend,
    prompt: Prompt,
    role: Role | None,
    format: Format,
    sampling: Sampling,
    strengths: Strengths = NONE,
) -> tuple[Piece, ...]:
    """Have one variant answer, and return its answer's tokens, for all to read; none for None.

    Raises:
        ModelError: it cannot answer.
    """
    if role is None:
        return ()
    answers = begin(trio, prompt, format, strengths=strengths)
    stream = trio.stream(prompt, sampling, format, roles=[role], strengths=strengths)
    said = finish(follow(answers, stream))[role]
    if said.error:
        raise ModelError(f"{role}: {said.error}")
    found = trio.pieces(said.ids)
    if role not in found or UNKNOWN_ID in said.ids:
        raise PromptError(f"{role} is an endpoint: it tells its answer's text, but not its tokens.")
    return found[role]


def left_out(trio: Backend) -> str:
    """Return which variants cannot be read, and why; nothing if all can."""
    roles = [one.role for one in trio.trio.variants if isinstance(one.source, Endpoint)]
    if not roles:
        return ""
    return f"Left out: {' and '.join(roles)}. An endpoint does not tell what a text costs it."


def fitting(trio: Backend, text: str) -> tuple[str, str]:
    """Return as much of a plain text as fits the context, and what to say of the rest.

    The cut is between two tokens of the first variant whose tokens are known.

    Raises:
        PromptError: it holds something that is no text.
    """
    room = trio.trio.max_context - 1
    known = trio.tokens(text, opening=True)
    if not known:
        return text, ""
    pieces = next(iter(known.values()))
    if len(pieces) <= room:
        return text, ""
    kept = sum(len(piece.text) for piece in pieces[:room] if not piece.special)
    return text[:kept], (
        f"{len(pieces):,} tokens are more than the context of {trio.trio.max_context:,}: the "
        f"first {kept:,} characters are read, the last {len(text) - kept:,} are not."
    )


def check_vocabularies(sent: Mapping[Role, Sent]) -> None:
    """Refuse to have one variant's tokens read by others to whom the ids mean something else.

    Raises:
        PromptError: the vocabularies are not equal.
    """
    if len({one.vocabulary for one in sent.values()}) > 1:
        raise PromptError(
            "The variants of this trio have different vocabularies: the ids of one mean other "
            "texts to another, so that no answer can be read by all."
        )


def record(readings: Readings, position: int | None = None) -> dict[str, Any]:
    """Return finished readings as JSON-ready values.

    Args:
        readings: of all variants.
        position: the token after which `next` is told; None is the last, below 0 counts from it.

    Raises:
        PromptError: a variant's text has no such token.
    """
    return {
        "variants": {role: _record(one, _placed(one, position)) for role, one in readings.items()}
    }


def _placed(one: Reading, position: int | None) -> int:
    length = len(one.after)
    place = length - 1 if position is None else position + length * (position < 0)
    if not 0 <= place < length:
        raise PromptError(
            f"There is no token {position} in the {length} tokens of {one.role}; positions go from "
            f"0 to {length - 1}, or from -1 back."
        )
    return place


def _record(one: Reading, place: int) -> dict[str, Any]:
    whole, answer = one.sums(), one.sums(answer=True)
    parted = parting(one)
    return {
        "next": [
            {"text": it.text, "id": it.id, "p": it.p, "sampled": it.sampled}
            for it in one.after[place].likeliest
        ],
        "after": place,
        "outside": one.after[place].outside,
        "losses": [
            {"text": piece.text, "id": piece.id, "nats": nats, "rank": rank}
            for piece, nats, rank in zip(one.pieces, one.losses, one.ranks, strict=True)
        ],
        "prompt_tokens": one.prompt_tokens,
        "whole": _sums_record(whole),
        "answer": _sums_record(answer) if len(one.pieces) > one.prompt_tokens else None,
        "parts_at": parted,
        "says_there": one.after[parted - 1].likeliest[0].text
        if parted and one.after[parted - 1].likeliest
        else None,
    }


def _sums_record(one: Sums | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "tokens": one.tokens,
        "nats": one.nats,
        "nats_per_token": one.nats_per_token,
        "perplexity": one.perplexity,
        "bits_per_byte": one.bits_per_byte,
    }
