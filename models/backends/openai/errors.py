"""What a server says of an error, in its own words: JSON in any of the usual shapes, or HTML."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

_MAX_MESSAGE = 200
"""Most characters of a server's message that are shown."""
_ERROR_KEYS = ("error", "errors", "detail", "message")
_ANSWER_KEYS = {"choices", "usage"}
"""Keys of an answer; beside them only the first two keys report an error."""
_WORD_KEYS = ("message", "msg", "detail", "error", "errors", "reason", "title", "description")


class ReplyError(ValueError):
    """A reply that is no answer; the message goes on from the name of the server."""


def one_line(text: str) -> str:
    """Collapse a server's message into one printable line; a long one is cut between words."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(line) <= _MAX_MESSAGE:
        return line
    border = line.rfind(" ", _MAX_MESSAGE // 2, _MAX_MESSAGE)
    return line[: border if border > 0 else _MAX_MESSAGE - 1].rstrip(" .,;:") + "…"


def as_text(value: object) -> str:
    """Return text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sentence(words: str) -> str:
    """Return words with one full stop at their end, unless another mark ends them."""
    return words if words.endswith(("!", "?", "…")) else words.rstrip(". ") + "."


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ReplyError: the text is a web page or anything else that is not JSON.
    """
    if is_web_page(text):
        raise ReplyError(
            f"sent a web page, not an answer: “{one_line(body_words(text))}”. Look at its address."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(text) from error


def malformed(value: object) -> ReplyError:
    """Return the error of a reply that has not the shape of an answer; it quotes the reply."""
    return ReplyError(f"does not answer as it should. It sent: {one_line(as_text(value))}")


def is_web_page(text: str) -> bool:
    """Whether a body is HTML or XML."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


def body_words(text: str) -> str:
    """Return the words of an error's body: of its JSON, its HTML, or the body as it is."""
    if is_web_page(text):
        words = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<[^>]*>", " ", text)
        return html.unescape(words).strip() or text
    try:
        return error_words(json.loads(text)) or text
    except (ValueError, RecursionError):
        return text


def error_words(reply: object) -> str:
    """Return the words in which JSON reports an error; empty if it reports none."""
    if isinstance(reply, list):
        return next(filter(None, map(error_words, reply)), "")
    if not isinstance(reply, Mapping):
        return ""
    for key in _ERROR_KEYS:
        value = reply.get(key)
        said = isinstance(value, Mapping) and "content" in value  # the message of an answer
        if value and not said and (key in ("error", "errors") or not _ANSWER_KEYS & reply.keys()):
            return _words(reply if isinstance(value, int) else value)  # true, or a code
    return ""


def _words(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(_words, value))
    if isinstance(value, Mapping) and (key := next(filter(value.get, _WORD_KEYS), None)):
        place = value.get("loc") or ()
        where = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
        return where + _words(value[key])
    return as_text(value)
