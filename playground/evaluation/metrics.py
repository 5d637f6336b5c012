"""Scores of answers, and confidence intervals of scores. Pure functions of texts and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from playground.comparison.words import words_of

Floats = NDArray[np.float64]
Z = 1.959964
"""95 % of a normal distribution lies within this many standard deviations of the mean."""


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words (Lin 2004, ROUGE-L)."""
    answer_words, reference_words = words_of(answer), words_of(reference)
    lengths = [0] * (len(reference_words) + 1)
    for word in answer_words:
        above = lengths[:]
        for n, expected in enumerate(reference_words):
            lengths[n + 1] = above[n] + 1 if word == expected else max(above[n + 1], lengths[n])
    common = lengths[-1]
    return 2 * common / (len(answer_words) + len(reference_words)) if common else 0.0


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927)."""
    share = successes / n
    centre = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return (centre - half) / (1 + Z * Z / n), (centre + half) / (1 + Z * Z / n)


def paired_difference(
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    wordings: Sequence[Sequence[int]] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the mean difference of two variants' scores on the same items, and its 95 % interval.

    The interval is a bootstrap of two crossed factors (the "pigeonhole" bootstrap of Owen 2007):
    items and wordings are drawn with replacement, independently of each other, since both are
    samples of what could have been asked. The weight of a score is the number of times that its
    item was drawn, times the number of times that its wording was.

    Args:
        ours: one variant's scores, a list for each item with a score for each wording of it.
        theirs: the other variant's scores, in the same order.
        wordings: number of the wording of each score; None numbers the scores of an item from 0.
        draws: number of bootstrap samples.
        seed: seed of the draws.
    """
    numbers = wordings or [range(len(item)) for item in ours]
    distinct = {number for item in numbers for number in item}
    column = {number: n for n, number in enumerate(sorted(distinct))}
    sums, counts = np.zeros((2, len(ours), len(column)))
    for n, item in enumerate(zip(ours, theirs, numbers, strict=True)):
        for our_score, their_score, number in zip(*item, strict=True):
            sums[n, column[number]] += our_score - their_score
            counts[n, column[number]] += 1
    item_weights, wording_weights = _draw_counts(*sums.shape, draws, seed)
    weights = ((item_weights @ counts) * wording_weights).sum(1)
    totals = ((item_weights @ sums) * wording_weights).sum(1)
    means = totals[weights > 0] / weights[weights > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(sums.sum() / counts.sum()), float(low), float(high)


@lru_cache(maxsize=2)
def _draw_counts(items: int, wordings: int, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return how often each item and each wording is drawn: (draws, items), (draws, wordings).

    Cached: an evaluation needs the same draws for many cells, and drawing is slower than summing.
    """
    random = np.random.default_rng(seed)
    item_counts, wording_counts = (
        random.multinomial(n, [1 / n] * n, size=draws).astype(float) for n in (items, wordings)
    )
    return item_counts, wording_counts


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Return the exact two-sided p-value of the hypothesis that two variants are equally accurate.

    Only items that exactly one variant got right count (McNemar 1947).
    """
    pairs = list(zip(ours, theirs, strict=True))
    more, fewer = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    n = more + fewer
    tail = sum(math.comb(n, k) for k in range(min(more, fewer) + 1))
    return min(1.0, float(2 * tail / 2**n))  # integers, since 2.0**1024 overflows


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for multiple tests (Holm 1979), by the names of the tests."""
    ranked = sorted(values, key=lambda name: values[name])
    adjusted, least = {}, 0.0
    for rank, name in enumerate(ranked):
        least = max(least, min(1.0, (len(ranked) - rank) * values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in values}
