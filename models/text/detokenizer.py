"""Ids → text as it grows, never half a character, in constant time per token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers.decoders import DecodeStream


class Detokenizer:
    """The text of one answer; special tokens are shown, for nothing is hidden."""

    def __init__(self, tokenizer: Any, forced_prefix: Iterable[int] = ()) -> None:
        """Take a fast tokenizer of transformers, and ids that the answer began with."""
        self._tokenizer = tokenizer
        self._stream: DecodeStream | None = DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._shown = 0
        for id in forced_prefix:
            self.add(id)

    def add(self, id: int) -> str:
        """Return what this token adds; empty while a character is still in pieces."""
        self._ids.append(id)
        try:
            text = (
                self._stream.step(self._tokenizer.backend_tokenizer, id) if self._stream else None
            )
        except Exception:  # its own kind: bytes came that change what was shown already
            self._stream, text = None, None
        if self._stream is None:  # from here on in full, at the cost of the answer's length
            text = self.rest().rstrip("\ufffd")
        if text is None:
            return ""
        self._shown += len(text)
        return text

    def rest(self) -> str:
        """Return what never became a whole character: its bytes, as replacement characters."""
        whole = self._tokenizer.decode(
            self._ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(whole)[self._shown :]


class StopText:
    """Cuts an answer before the first of its stop texts, and holds back what may become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Take the texts; none lets everything through."""
        self._stops = stops
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return what may be shown now, and whether the answer ends here."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            shown, self._held = self._held[: min(found)], ""
            return shown, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def rest(self) -> str:
        """Return what was held back and became no stop text after all."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
