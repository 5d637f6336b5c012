"""Finds texts that go round in circles. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

LOOP = 12
"""Least number of tokens in a loop, a phrase that is repeated at least three times."""


def looped(tokens: Sequence[int | str]) -> bool:
    """Whether the last tokens repeat a phrase at least three times, over at least `LOOP` tokens."""
    return repeated(tokens) > 0


def repeated(tokens: Sequence[int | str]) -> int:
    """Return how many of the last tokens say a phrase again; 0 if the text does not go round."""
    last = len(tokens) - 1
    for period in range(1, len(tokens) // 3 + 1):
        length = max(3 * period, LOOP)
        if tokens[last] != tokens[last - period] or length > len(tokens):
            continue
        tail = tokens[-length:]
        if all(tail[n] == tail[n - period] for n in range(period, length)):
            return next(
                (
                    last - n
                    for n in range(last - length + period, period - 1, -1)
                    if tokens[n] != tokens[n - period]
                ),
                len(tokens) - period,
            )
    return 0
