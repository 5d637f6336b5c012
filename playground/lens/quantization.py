"""Compares the effect of 4-bit quantization with that of tuning, so that they are not confused."""

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
    TokenScores,
    open_backend,
)
from playground.comparison.compare import Answers, begin, finish, follow
from playground.lens.score_text import score_text
from playground.lens.token_scores import TrioScores, available

COMPARED_TOP = 64
"""Number of top tokens of a distribution that are compared singly; the rest is merged."""
_LEAST_REST = 1e-6
"""Lower bound of the other tokens' total probability: the precision of a float32 sum."""
_unquantised_lock = threading.Lock()
"""Held while unquantised weights are in memory: one copy at a time, for all users together."""


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """A variant's 4-bit weights compared with its unquantised ones, on the 4-bit greedy answer."""

    role: Role
    tokens: int
    """Number of tokens in the answer, all of which were compared."""
    kl: float
    """Mean KL(unquantised‖4-bit) per token, in nats; a lower bound."""
    same_top: float
    """Share of positions where both have the same most likely token."""
    parts_at: int | None
    """Index of the first token at which the two greedy answers differ; None if they are equal."""
    text: str
    whole_text: str
    """The answer of the unquantised weights."""
    tuning_kl: float | None
    """Mean KL(variant‖base) on the same answer, both in 4 bits; None for the base itself, and where
    the two have different prompts."""


def compare_quantization(
    trio: Backend,
    unquantised: Backend,
    prompt: Prompt,
    format: Format,
    sampling: Sampling,
    wanted: Callable[[], bool] = lambda: True,
    deadline_s: float | None = None,
) -> list[QuantizationReport]:
    """Compare each variant with its unquantised weights, until `wanted` returns False.

    Either side's answers are cut off after `deadline_s` seconds, if that is given.

    Raises:
        ModelError: one of the two cannot answer.
    """
    answers, whole_answers = (
        _answers(backend, prompt, format, sampling, deadline_s) for backend in (trio, unquantised)
    )
    reports = []
    for role, answer in answers.items():
        if not wanted():
            break
        pieces = trio.encoders[role].pieces(answer.ids)
        scores, whole_scores = (
            _scores(backend, prompt, format, pieces) for backend in (trio, unquantised)
        )
        own, base = scores[role], scores["base"]
        same_prompt = role != "base" and own.pieces == base.pieces
        reports.append(
            QuantizationReport(
                role=role,
                tokens=len(pieces),
                kl=divergence(whole_scores[role], own),
                same_top=_same_top(own, whole_scores[role]),
                parts_at=_first_difference(answer.ids, whole_answers[role].ids),
                text=answer.text,
                whole_text=whole_answers[role].text,
                tuning_kl=divergence(own, base) if same_prompt else None,
            )
        )
    return reports


def _first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    if ours == theirs:
        return None
    pairs = zip(ours, theirs, strict=False)
    shorter = min(len(ours), len(theirs))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)


@contextmanager
def unquantised(trio: Backend) -> Iterator[Backend]:
    """Load a trio again without quantization, and close it at the end of the `with` block.

    Raises:
        ModelError: the weights cannot be loaded, another user has them loaded, or the trio is not
            quantised.
    """
    if trio.trio.precision == "none":
        raise PromptError("This trio is not quantised: there is nothing to compare with.")
    if not _unquantised_lock.acquire(blocking=False):
        raise PromptError("Somebody compares with unquantised weights just now. Try again.")
    try:
        with closing(open_backend(replace(trio.trio, precision="none"))) as backend:
            yield backend
    finally:
        _unquantised_lock.release()


def divergence(true: TokenScores, other: TokenScores) -> float:
    """Return the mean KL(true‖other) per token in nats, a lower bound (see `coarse_kl`).

    The mean is over the next-token distributions that predict the tokens after the prompt.
    """
    pairs = zip(_answer_distributions(true), _answer_distributions(other), strict=True)
    divergences = [coarse_kl(p, q) for p, q in pairs]
    return math.fsum(divergences) / len(divergences)


def coarse_kl(p: TokenDistribution, q: TokenDistribution) -> float:
    """Return KL(p‖q) in nats over the tokens in both tops, with all other tokens merged into one.

    Merging events never increases the divergence (data processing inequality), so this is a lower
    bound of the divergence over the whole vocabulary.
    """
    ours = {token.id: token.p for token in p.top}
    theirs = {token.id: token.p for token in q.top}
    pairs = [(ours[id], theirs[id]) for id in ours.keys() & theirs.keys()]
    sums = (math.fsum(a for a, _ in pairs), math.fsum(b for _, b in pairs))
    rest = (max(1 - sums[0], _LEAST_REST), max(1 - sums[1], _LEAST_REST))
    terms = [a * math.log(a / b) for a, b in [*pairs, rest]]
    return max(0.0, math.fsum(terms))


def _answers(
    trio: Backend, prompt: Prompt, format: Format, sampling: Sampling, deadline_s: float | None
) -> Answers:
    request = Request(prompt, sampling, format, deadline_s=deadline_s)
    answers = finish(follow(begin(trio, request), trio.stream(request)))
    for role, answer in answers.items():
        if answer.error or not answer.ids or UNKNOWN_ID in answer.ids:
            raise ModelError(f"{role}: {answer.error or 'its tokens are not known here'}.")
    return answers


def _scores(
    trio: Backend, prompt: Prompt, format: Format, answer: Sequence[TokenPiece]
) -> TrioScores:
    *_, scores = score_text(trio, prompt, format=format, answer=answer, top=COMPARED_TOP)
    return available(scores)


def _answer_distributions(scores: TokenScores) -> Sequence[TokenDistribution]:
    """Return the distributions that predict the tokens after the prompt."""
    return scores.distributions[scores.prompt_tokens - 1 : -1]


def _same_top(ours: TokenScores, theirs: TokenScores) -> float:
    pairs = zip(_answer_distributions(ours), _answer_distributions(theirs), strict=True)
    same = [a.top[0].id == b.top[0].id for a, b in pairs]
    return sum(same) / len(same)
