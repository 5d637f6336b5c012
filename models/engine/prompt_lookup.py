"""What a row may say next, read off what it has said: small models repeat themselves.

A guess rides in the step as one more row, and one that brings no slot: it makes a step of three
rows about a twentieth longer. What is right was computed as it would have been without a guess, to
the last bit; what is wrong is dropped. So guessing changes how fast a text comes, and nothing else.
(Prompt lookup: what followed where the same tokens stood last; cf. Yang et al. 2304.04487.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

MOST = 7
"""Tokens that a row guesses ahead at the most."""
TRIES = 2
"""Tokens that it guesses at the most where the last guess was wrong, in a third of its room."""
LENGTHS = (3, 2, 1)
"""How many tokens are looked up: what followed three of them is right more often than two."""


class PromptLookup:
    """One row's tokens, and where they were said before."""

    def __init__(self, ids: Sequence[int]) -> None:
        """Take the prompt."""
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Some tokens in a row, and the place of the one that followed them last."""
        self._guessed: list[int] = []
        self._right = False
        """Whether the last guess was, or would have been: a text that repeats itself goes on so."""
        for id in ids:
            self._append(id)

    def add(self, ids: Sequence[int]) -> None:
        """Take the tokens of a step, guess on, and learn whether that pays."""
        self._right = bool(self._guessed) and ids[0] == self._guessed[0]
        for id in ids:
            self._append(id)
        found = (self._after.get(tuple(self._ids[-length:])) for length in LENGTHS)
        at = next((place for place in found if place is not None), len(self._ids))
        # What goes round in fewer tokens goes on round.
        self._guessed = list(islice(cycle(self._ids[at : at + MOST]), MOST))

    def next(self, most: int) -> list[int]:
        """Return the tokens that are worth a guess, at most so many."""
        return self._guessed[: most if self._right else min(TRIES, most // 3)]

    def _append(self, id: int) -> None:
        for length in LENGTHS:
            if len(self._ids) >= length:
                self._after[tuple(self._ids[-length:])] = len(self._ids)
        self._ids.append(id)
