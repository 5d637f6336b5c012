"""Answers → scores, and scores → intervals. Pure: knows texts and numbers, no model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def normalised(text: str) -> str:
    """Return a text in lower case, single spaces, and without marks around it."""
    return " ".join(text.lower().split()).strip(" .,:;!?\"'`*()[]")


def label_of(answer: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer names first, as whole words; None where it names none.

    Of two that begin at one place the longer is meant. A label of one letter must begin the answer
    and stand by itself: "A dog" does not choose A.
    """
    found = []
    for label in labels:
        if len(label) == 1:
            match = re.match(rf"\W*({re.escape(label)})\s*(?![\w\s])", answer)
        else:
            spelt = r"\s+".join(map(re.escape, label.split()))
            match = re.search(rf"(?<!\w)({spelt})(?!\w)", answer, re.IGNORECASE)
        if match:
            found.append((match.start(1), -len(label), label))
    return min(found)[2] if found else None


def is_valid(answer: str, labels: Sequence[str], ended: bool) -> bool:
    """Whether an answer is one of the labels and nothing else, and ended by itself."""
    return ended and normalised(answer) in {normalised(label) for label in labels}


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words (Lin 2004, ROUGE-L)."""
    said, meant = (re.findall(r"\w+", text.lower()) for text in (answer, reference))
    lengths = [0] * (len(meant) + 1)
    for word in said:
        above = lengths[:]
        for n, other in enumerate(meant):
            lengths[n + 1] = above[n] + 1 if word == other else max(above[n + 1], lengths[n])
    common = lengths[-1]
    return 2 * common / (len(said) + len(meant)) if common else 0.0


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927)."""
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
    """Return the mean difference of two variants on the same items, and its 95 % interval.

    Items and wordings are drawn with replacement, each by itself: both are samples of what could
    have been asked (a bootstrap of two crossed factors, the "pigeonhole" of Owen 2007). A score
    counts as often as its item was drawn, times as often as its wording was.

    Args:
        ours: scores of each item, one for each wording that it was asked in.
        theirs: of the other variant, in the same order.
        wordings: number of the wording of each score; None is that of its place.
        draws: bootstrap samples.
        seed: of the draws.
    """
    numbers = wordings or [range(len(item)) for item in ours]
    among = {number for item in numbers for number in item}
    column = {number: n for n, number in enumerate(sorted(among))}
    sums, counts = np.zeros((2, len(ours), len(column)))
    for n, (mine, other, asked) in enumerate(zip(ours, theirs, numbers, strict=True)):
        for one, two, number in zip(mine, other, asked, strict=True):
            sums[n, column[number]] += one - two
            counts[n, column[number]] += 1
    items, words = _drawn(*sums.shape, draws, seed)
    weights = ((items @ counts) * words).sum(1)
    means = ((items @ sums) * words).sum(1)[weights > 0] / weights[weights > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(sums.sum() / counts.sum()), float(low), float(high)


@lru_cache(maxsize=2)
def _drawn(items: int, wordings: int, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return how often each item and each wording is drawn: (draws, items), (draws, wordings).

    Kept, for an evaluation asks the same of many cells, and drawing takes longer than summing.
    """
    random = np.random.default_rng(seed)
    found = (random.multinomial(n, [1 / n] * n, size=draws) for n in (items, wordings))
    one, other = (each.astype(float) for each in found)
    return one, other


def mcnemar(ours: Sequence[bool], theirs: Sequence[bool]) -> float:
    """Return the exact two-sided p-value that two variants are right equally often.

    Only items that exactly one of them got right count (McNemar 1947).
    """
    pairs = list(zip(ours, theirs, strict=True))
    more, fewer = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    n = more + fewer
    tail = sum(math.comb(n, k) for k in range(min(more, fewer) + 1))
    return min(1.0, float(2 * tail / 2**n))  # whole numbers: 2.0**1024 is more than a float holds


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values that hold for all tests together (Holm 1979)."""
    ranked = sorted(values, key=lambda name: values[name])
    adjusted, least = {}, 0.0
    for rank, name in enumerate(ranked):
        least = max(least, min(1.0, (len(ranked) - rank) * values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in values}
