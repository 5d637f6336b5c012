"""The text of a reply: the parts of a message's content, and characters that come in halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.backends.openai.errors import as_text, malformed

_REASONING_PARTS = ("thinking", "reasoning", "reasoning_text", "reasoning_summary", "summary_text")


class Characters:
    """Text as it grows; halves of a character that JSON escapes in two events are joined."""

    def __init__(self) -> None:
        self.sent = ""
        """The text so far, as it was sent."""
        self._half = ""

    def add(self, text: str, is_whole: bool = False) -> str:
        """Return the text that can be shown now; a whole text begins with what came before."""
        new = text.removeprefix(self.sent) if is_whole else text
        self.sent += new
        text = self._half + new
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _joined(text.removesuffix(self._half))

    def rest(self) -> str:
        """Return the half that was never completed."""
        return _joined(self._half)


def _joined(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def pieces_of(content: object) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a message's content, a text or a list of parts, each with its kind.

    Raises:
        ReplyError: it is neither.
    """
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from pieces_of(part)
    elif isinstance(content, Mapping):
        kind = as_text(content.get("type") or "text")
        keys = (kind, "text", "value", "content", "summary")
        inner = next(filter(None, map(content.get, keys)), None)
        if kind in ("text", "output_text"):
            yield from pieces_of(inner)
        elif kind.replace(".", "_") in _REASONING_PARTS or kind == "refusal":
            name = "refusal" if kind == "refusal" else "reasoning"
            yield from ((name, text) for _, text in pieces_of(inner))
        else:
            yield kind, ""
    elif content is not None:
        raise malformed(content)
