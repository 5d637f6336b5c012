"""What a row may say next, read off what it has said: small models repeat themselves.

A guess rides in the step as one more row, and a step of twelve rows takes 1.8 times as long as one
of three. What is right was computed as it would have been without a guess, to the last bit; what is
wrong is dropped. So guessing changes how fast a text comes, and nothing else. (Prompt lookup: the
continuation of the last place where the same three tokens stood; cf. Yang et al. 2304.04487.)
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 3
"""Tokens that a row guesses ahead at the most."""
_LENGTH = 3


class Guesses:
    """One row's tokens, and where they were said before."""

    def __init__(self, ids: Sequence[int]) -> None:
        """Take the prompt."""
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._ahead = 0
        """How many guesses are worth a row: as many as were right, and one more."""
        self._guessed: list[int] = []
        for id in ids:
            self._append(id)

    def add(self, ids: Sequence[int]) -> None:
        """Take the tokens of a step, and learn from them how far to guess."""
        right = 0
        for id, guess in zip(ids, self._guessed, strict=False):
            if id != guess:
                break
            right += 1
        self._ahead = min(MOST, right + 1) if right else 0
        for id in ids:
            self._append(id)
        self._guessed = self._look_up()

    def next(self, most: int) -> list[int]:
        """Return the tokens that are worth a guess, at most so many."""
        return self._guessed[: min(self._ahead, most)]

    def _append(self, id: int) -> None:
        if len(self._ids) >= _LENGTH:
            self._after[tuple(self._ids[-_LENGTH:])] = len(self._ids)
        self._ids.append(id)

    def _look_up(self) -> list[int]:
        at = self._after.get(tuple(self._ids[-_LENGTH:]))
        return [] if at is None else self._ids[at : at + MOST]
