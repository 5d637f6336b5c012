"""Speculative decoding by prompt lookup: guesses the tokens that followed the last n-gram before.

A guessed token is checked in the same step, as one more row on the sequence's own KV cache, which
makes a step of three rows about a twelfth longer. A right guess is computed as it would have been
without guessing, to the last bit; a wrong one is dropped. So guessing changes the speed of a text,
and nothing else. The method is that of Yang et al. 2304.04487: copy what followed the last
occurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

MAX_GUESSES = 7
"""Most tokens guessed ahead in a step, for all its sequences together. More are right too seldom to
pay off, and each number of rows has to be recorded before it is replayed (`replay/`)."""
TRIAL_GUESSES = 2
"""Most tokens guessed after a wrong guess."""
NGRAM_LENGTHS = (3, 2, 1)
"""Lengths of the n-grams looked up, in order: what followed three tokens is right most often."""


class PromptLookup:
    """The tokens of one sequence, with an index of what followed each n-gram last."""

    def __init__(self, ids: Sequence[int]) -> None:
        """Start with the token ids of the prompt."""
        self._ids: list[int] = []
        self._place_after: dict[tuple[int, ...], int] = {}
        """For each n-gram, the index of the token that followed its last occurrence."""
        self._guesses: list[int] = []
        self._was_right = False
        """Whether the first guess of the last step was, or would have been, right."""
        for id in ids:
            self._append(id)

    def append(self, ids: Sequence[int]) -> None:
        """Append the tokens of a step, and guess those that follow."""
        self._was_right = bool(self._guesses) and ids[0] == self._guesses[0]
        for id in ids:
            self._append(id)
        places = (self._place_after.get(tuple(self._ids[-length:])) for length in NGRAM_LENGTHS)
        place = next((place for place in places if place is not None), len(self._ids))
        # If fewer tokens followed than can be guessed, guess that they repeat.
        followed = self._ids[place : place + MAX_GUESSES]
        self._guesses = list(islice(cycle(followed), MAX_GUESSES))

    def guesses(self, room: int) -> list[int]:
        """Return the tokens that are worth guessing, at most `room`."""
        return self._guesses[: room if self._was_right else min(TRIAL_GUESSES, room)]

    def _append(self, id: int) -> None:
        for length in NGRAM_LENGTHS:
            if len(self._ids) >= length:
                self._place_after[tuple(self._ids[-length:])] = len(self._ids)
        self._ids.append(id)
