"""Token ids → text as it grows, never half a character, in constant time per token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers.decoders import DecodeStream


class Detokenizer:
    """The text of one answer; special tokens are shown, since nothing is hidden."""

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
        """Characters that were returned."""
        for id in forced_prefix:
            self.add(id)

    def add(self, id: int) -> str:
        """Return the text that this token adds; empty while a character is incomplete."""
        self._ids.append(id)
        try:
            text = (
                self._stream.step(self._tokenizer.backend_tokenizer, id) if self._stream else None
            )
        except Exception:  # a bare Exception of the library: bytes came that change earlier text
            self._stream, text = None, None
        if self._stream is None:  # from here on decoded in full, at the cost of the answer's length
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
    """Ends an answer before the first of its stop texts; withholds what may become one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        """Look for these texts; none lets everything through."""
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
        """Return the withheld text, which became no stop text after all."""
        rest, self._withheld = self._withheld, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
