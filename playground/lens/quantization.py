"""What 4 bits change, beside what tuning changes: so that rounding is not taken for tuning."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from models import (
    UNKNOWN_ID,
    Backend,
    Format,
    ModelError,
    Prompt,
    PromptError,
    Request,
    Role,
    Sampling,
    TokenDistribution,
    TokenPiece,
    open_backend,
)
from playground.comparison.compare import Answers, begin, finish, follow
from playground.lens import score_text
from playground.lens.readings import Readings, TokenScores

SHOWN = 64
"""Tokens of a distribution that are compared one by one; the rest is one event."""
_LEAST = 1e-6
"""What the mass of all others counts as at least: a sum of float32 is no finer."""
_ONE = threading.Lock()
"""Unquantised weights are held once at a time, whoever asks."""


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """One variant in 4 bits against itself unquantised, on its own greedy answer."""

    role: Role
    tokens: int
    """Tokens of the answer that were compared."""
    kl: float
    """Mean divergence of 4 bits from the unquantised weights, in nats; a lower bound."""
    same_top: float
    """Share of the tokens where both expect the same."""
    parts_at: int | None
    """First token at which the two answers differ; None where they are equal."""
    text: str
    whole_text: str
    """The answer of the unquantised weights."""
    tuning_kl: float | None
    """The same measure of this variant from the base, both in 4 bits; None for the base, and where
    their prompts differ."""


def rounding(
    trio: Backend,
    whole: Backend,
    prompt: Prompt,
    format: Format,
    max_new_tokens: int,
    wanted: Callable[[], bool] = lambda: True,
) -> list[QuantizationReport]:
    """Compare a trio with its unquantised self; what is found before it is unwanted is returned.

    Raises:
        ModelError: one of the two cannot answer.
    """
    sampling = Sampling(max_new_tokens)
    said, meant = (_answers(one, prompt, format, sampling) for one in (trio, whole))
    found = []
    for role, answer in said.items():
        if not wanted():
            break
        pieces = trio.pieces(answer.ids)[role]
        ours, theirs = (_read(one, prompt, format, pieces) for one in (trio, whole))
        mine, base = ours[role], ours["base"]
        alike = role != "base" and mine.pieces == base.pieces
        found.append(
            QuantizationReport(
                role=role,
                tokens=len(pieces),
                kl=divergence(theirs[role], mine),
                same_top=_same_top(mine, theirs[role]),
                parts_at=_parting(answer.ids, meant[role].ids),
                text=answer.text,
                whole_text=meant[role].text,
                tuning_kl=divergence(mine, base) if alike else None,
            )
        )
    return found


def _parting(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    if ours == theirs:
        return None
    pairs = zip(ours, theirs, strict=False)
    shorter = min(len(ours), len(theirs))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)


@contextmanager
def unquantised(trio: Backend) -> Iterator[Backend]:
    """Load a trio's weights as they are stored, for as long as the block runs.

    Raises:
        ModelError: they cannot be had, somebody else has them, or the trio holds no 4-bit weights.
    """
    if trio.trio.precision == "none":
        raise PromptError("This trio is not quantised: there is nothing to compare with.")
    if not _ONE.acquire(blocking=False):
        raise PromptError("Somebody compares with unquantised weights just now. Try again.")
    try:
        with closing(open_backend(replace(trio.trio, precision="none"))) as whole:
            yield whole
    finally:
        _ONE.release()


def divergence(true: TokenScores, other: TokenScores) -> float:
    """Return the mean divergence of the other's distributions from the true ones, in nats.

    Over what follows the prompt: the distribution before each token of it.
    """
    first, second = (one.after[one.prompt_tokens - 1 : -1] for one in (true, other))
    each = [coarse_kl(p, q) for p, q in zip(first, second, strict=True)]
    return math.fsum(each) / len(each)


def coarse_kl(p: TokenDistribution, q: TokenDistribution) -> float:
    """Return KL(p‖q) in nats over the tokens that both tell, and all others as one event.

    To take events together never makes two distributions more different (the data processing
    inequality): it is a lower bound of the divergence over the whole vocabulary.
    """
    ours = {one.id: one.p for one in p.likeliest}
    theirs = {one.id: one.p for one in q.likeliest}
    both = ours.keys() & theirs.keys()
    pairs = [(ours[id], theirs[id]) for id in both]
    sums = (math.fsum(a for a, _ in pairs), math.fsum(b for _, b in pairs))
    rest = (max(1 - sums[0], _LEAST), max(1 - sums[1], _LEAST))
    terms = [a * math.log(a / b) for a, b in [*pairs, rest]]
    return max(0.0, math.fsum(terms))


def _answers(trio: Backend, prompt: Prompt, format: Format, sampling: Sampling) -> Answers:
    request = Request(prompt, sampling, format)
    said = finish(follow(begin(trio, request), trio.stream(request)))
    for role, one in said.items():
        if one.error or not one.ids or UNKNOWN_ID in one.ids:
            raise ModelError(f"{role}: {one.error or 'its tokens are not known here'}.")
    return said


def _read(trio: Backend, prompt: Prompt, format: Format, answer: Sequence[TokenPiece]) -> Readings:
    *_, readings = score_text.read(trio, prompt, format=format, answer=answer, likeliest=SHOWN)
    return readings


def _same_top(ours: TokenScores, theirs: TokenScores) -> float:
    pairs = zip(
        ours.after[ours.prompt_tokens - 1 : -1],
        theirs.after[theirs.prompt_tokens - 1 : -1],
        strict=True,
    )
    same = [a.likeliest[0].id == b.likeliest[0].id for a, b in pairs]
    return sum(same) / len(same)
