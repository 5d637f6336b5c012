"""Text → token ids, with control tokens parsed or taken as the text that they are spelt with.

It knows no prompts: what of a text may be parsed, its callers say.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

from models.types import TokenPiece

_LOCK = threading.Lock()
"""Held while tokenizing, since `split_special_tokens` is state of the tokenizer, not of a call."""


class Tokenization:
    """One tokenizer, and its control tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """Find the control tokens of a fast tokenizer of transformers."""
        self.tokenizer = tokenizer
        specials = sorted(tokenizer.all_special_tokens + _control_tokens(tokenizer), key=len)
        self.special = re.compile("|".join(map(re.escape, reversed(specials))))
        """Matches each control token, the longest first."""
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
        with _LOCK:
            encoded = self.tokenizer(text, add_special_tokens=add, split_special_tokens=literal)
        return list(encoded["input_ids"])

    def following(
        self, before: str, last: TokenPiece | None, texts: Sequence[str]
    ) -> list[list[int]]:
        """Return the tokens that each text has after another, as both are tokenized together.

        Some tokenizers put a space before every text, and then a word alone has other tokens than
        after a prompt. Where a text would change the last token before it, it is tokenized by
        itself.

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
            following.append(ids if together else self.ids(text, literal=True))
        return following

    def chat_ids(self, rendered: str, typed: Sequence[tuple[int, int]]) -> list[int]:
        """Tokenize a rendered chat template: control tokens that the user typed are text.

        Args:
            rendered: what the template rendered.
            typed: the spans in it that are the user's.
        """
        # The tokenizer itself splits at special tokens, so splitting there changes nothing else.
        ids, at = [], 0
        for match in self.special.finditer(rendered):
            if any(start <= match.start() < end for start, end in typed):
                ids += self.ids(rendered[at : match.start()])
                ids += self.ids(match.group(), literal=True)
                at = match.end()
        return ids + self.ids(rendered[at:])


def _control_tokens(tokenizer: Any) -> list[str]:
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special]
