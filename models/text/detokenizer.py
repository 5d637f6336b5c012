"""Incremental detokenizer: token ids → text in whole characters, in constant time per token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers.decoders import DecodeStream


class Detokenizer:
    """Detokenizes one answer; special tokens are shown, since nothing is hidden."""

    def __init__(self, tokenizer: Any, forced_prefix: Iterable[int] = ()) -> None:
        """Start an answer.

        Args:
            tokenizer: a fast tokenizer of transformers.
            forced_prefix: ids that the answer began with; their text is not returned again.
        """
        self._tokenizer = tokenizer
        self._stream: DecodeStream | None = DecodeStream(skip_special_tokens=False)
        self._ids: list[int] = []
        self._length = 0
        """Number of characters returned so far."""
        for id in forced_prefix:
            self.add(id)

    def add(self, id: int) -> str:
        """Return the text that this token adds; empty while a character is incomplete."""
        self._ids.append(id)
        try:
            text = (
                self._stream.step(self._tokenizer.backend_tokenizer, id) if self._stream else None
            )
        except Exception:  # the library's only type: a token's bytes change earlier text
            self._stream, text = None, None
        if self._stream is None:  # from here on decode the whole answer at each token
            text = self.rest().rstrip("\ufffd")
        if text is None:
            return ""
        self._length += len(text)
        return text

    def rest(self) -> str:
        """Return the text that was not returned yet; incomplete characters become U+FFFD."""
        text = self._tokenizer.decode(
            self._ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)[self._length :]


class StopText:
    """Ends an answer before the first stop text; withholds text that may become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Hold the stop texts; if there are none, all text is let through."""
        self._stops = stops
        self._withheld = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return the text that can be shown now, and whether the answer ends here."""
        self._withheld += text
        places = [at for stop in self._stops if (at := self._withheld.find(stop)) >= 0]
        if places:
            shown, self._withheld = self._withheld[: min(places)], ""
            return shown, True
        keep = max((_overlap(self._withheld, stop) for stop in self._stops), default=0)
        cut = len(self._withheld) - keep
        shown, self._withheld = self._withheld[:cut], self._withheld[cut:]
        return shown, False

    def rest(self) -> str:
        """Return the withheld text, which has not become a stop text."""
        rest, self._withheld = self._withheld, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
