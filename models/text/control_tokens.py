"""The control tokens of a tokenizer, as texts that may stand in other texts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator


class ControlTokens:
    """Finds control tokens in texts: from the left, at each place the longest.

    A vocabulary may have six thousand, which a regular expression takes long to compile.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        """Prepare to find these tokens."""
        self._tokens = frozenset(filter(None, tokens))
        lengths: dict[str, set[int]] = defaultdict(set)
        for token in self._tokens:
            lengths[token[0]].add(len(token))
        self._lengths = {first: sorted(many, reverse=True) for first, many in lengths.items()}
        """Lengths of the tokens that begin with a character, the longest first."""
        firsts = "|".join(map(re.escape, self._lengths))
        self._first = re.compile(firsts or "(?!)")

    def spans(self, text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield where control tokens stand between two places of a text, in order."""
        end, free = len(text) if end is None else end, start
        for match in self._first.finditer(text, start, end):
            if (at := match.start()) < free:
                continue
            ends = (at + length for length in self._lengths[match.group()])
            token_end = next((n for n in ends if n <= end and text[at:n] in self._tokens), None)
            if token_end is not None:
                yield at, token_end
                free = token_end

    def among(self, text: str) -> list[str]:
        """Return the control tokens that a text spells, in order."""
        return [text[start:end] for start, end in self.spans(text)]
