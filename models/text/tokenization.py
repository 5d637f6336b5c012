"""Text → token ids, with control tokens parsed or taken as the text that they are spelt with.

It knows no prompts: what of a text may be parsed, its callers say.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

from models.text.control_tokens import ControlTokens
from models.types import TokenPiece

_ANCHORS = ("\n", ".", "a", "0")
"""Texts after which another is tokenized as inside a text; the first that it leaves as it is."""
_LOCK = threading.Lock()
"""Held while tokenizing, since `split_special_tokens` is state of the tokenizer, not of a call."""


class Tokenization:
    """One tokenizer, and its control tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """Find the control tokens of a fast tokenizer of transformers."""
        self.tokenizer = tokenizer
        specials = [*tokenizer.all_special_tokens, *_control_tokens(tokenizer)]
        self.control_tokens = ControlTokens(specials)
        self.special_ids = frozenset(tokenizer.convert_tokens_to_ids(specials))

    def ids(self, text: str, literal: bool = False, add: bool = False) -> list[int]:
        """Tokenize a text.

        Args:
            text: the text.
            literal: whether control tokens in it are text; else they are parsed.
            add: whether the tokens that begin and end a text are added (BOS, EOS).
        """
        if not text and not add:
            return []
        ids = self._ids(text, literal, add)
        if not (literal and self._spells_control_tokens and self.control_tokens.among(text)):
            return ids
        plain = self._ids(text, literal, add=False)
        added = next(n for n in range(len(ids)) if ids[n : n + len(plain)] == plain)
        return [*ids[:added], *self._cut_ids(text), *ids[added + len(plain) :]]

    def _ids(self, text: str, literal: bool, add: bool) -> list[int]:
        with _LOCK:
            encoded = self.tokenizer(text, add_special_tokens=add, split_special_tokens=literal)
        return list(encoded["input_ids"])

    @cached_property
    def _spells_control_tokens(self) -> bool:
        """Whether the vocabulary makes control tokens of text, as those of Unigram models do."""
        tokens = {*self.tokenizer.all_special_tokens} - {self.tokenizer.unk_token}
        ids = self.tokenizer.convert_tokens_to_ids
        return any(ids(token) in self._ids(token, literal=True, add=False) for token in tokens)

    def _cut_ids(self, text: str) -> list[int]:
        """Tokenize a text, each control token in it cut after its first character."""
        cuts = [start + 1 for start, _ in self.control_tokens.spans(text)]
        first, *rest = (text[a:b] for a, b in pairwise([0, *cuts, len(text)]))
        return self.ids(first, literal=True) + [
            id for part in rest for id in self.ids_inside(part, literal=True)
        ]

    def ids_inside(self, text: str, literal: bool = False) -> list[int]:
        """Tokenize a text as it stands inside another, where no tokenizer puts a space before it.

        A text that merges with every anchor is tokenized by itself.
        """
        for anchor in _ANCHORS:
            before = self.ids(anchor, literal)
            both = self.ids(anchor + text, literal)
            if before and both[: len(before)] == before:
                return both[len(before) :]
        return self.ids(text, literal)

    def following(
        self, before: str, last: TokenPiece | None, texts: Sequence[str]
    ) -> list[list[int]]:
        """Return the tokens that each text has after another, as both are tokenized together.

        Some tokenizers put a space before every text, and then a word alone has other tokens than
        after a prompt. Where a text would change the last token before it, it is tokenized as it
        stands after another token.

        Args:
            before: the text before.
            last: its last token, if it has any.
            texts: texts that may follow it.
        """
        # Tokenizers split after a special token; one for unknown text is not in the text.
        parsed = last if last and last.special and before.endswith(last.text) else None
        before = parsed.text if parsed else before
        own = [parsed.id] if parsed else self.ids(before, literal=True)
        following = []
        for text in texts:
            both = self.ids(before + text, literal=not parsed)
            ids = both[len(own) :]
            is_text = not parsed or self.special_ids.isdisjoint(ids)
            together = is_text and both[: len(own)] == own
            following.append(ids if together else self.ids_inside(text, literal=True))
        return following

    def chat_ids(self, rendered: str, typed: Sequence[tuple[int, int]]) -> list[int]:
        """Tokenize a rendered chat template: control tokens that the user typed are text.

        Args:
            rendered: what the template rendered.
            typed: the spans in it that are the user's.
        """
        ids, at = [], 0
        for start, end in self._typed_controls(rendered, typed):
            ids += self._part(rendered, at, start)
            ids += self._part(rendered, start, end, literal=True)
            at = end
        return ids + self._part(rendered, at, len(rendered))

    def _part(self, text: str, start: int, end: int, literal: bool = False) -> list[int]:
        tokenized = self.ids_inside if start else self.ids
        return tokenized(text[start:end], literal)

    def _typed_controls(
        self, rendered: str, typed: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Yield the spans of control tokens that the user typed, wholly or a part of them.

        The template's own are those that it wrote by itself, between the user's texts.
        """
        borders = [0, *(border for span in typed for border in span), len(rendered)]
        parts = zip(borders[::2], borders[1::2], strict=True)
        own = [span for part in parts for span in self.control_tokens.spans(rendered, *part)]
        at = 0
        for start, end in (*own, (len(rendered), len(rendered))):
            yield from self.control_tokens.spans(rendered, at, start)
            at = end


def _control_tokens(tokenizer: Any) -> list[str]:
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special]
