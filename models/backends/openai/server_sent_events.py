"""Splits the bytes of a reply into server-sent events. Knows nothing of what they mean.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html, and takes what servers send
beside it: events without a blank line between them, an `error:` field, bodies that are no events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from models.backends.openai.errors import ReplyError

NO_EVENT = "no event"
"""Name of the last item if some lines are not of an event stream: those lines."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
MAX_BYTES = 1 << 24
"""Most bytes of a reply; 4,096 events of 4 kB each."""
MAX_LINE_BYTES = 1 << 22
"""Most bytes of a line."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a reply."""

    data: str
    name: str = ""
    """Its `event` field; `error` if its data came in an `error` field."""
    is_utf8: bool = True
    """Whether its bytes are UTF-8; if not, U+FFFD stands for those that are not."""


def read_events(blocks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield the events of a reply, however its bytes are cut into blocks.

    Raises:
        ReplyError: the reply is too long.
    """
    name, data, other, is_utf8 = "", list[str](), list[str](), True
    for n, line in enumerate(_lines(blocks)):
        text = line.decode(errors="replace")
        text = text.removeprefix("\ufeff") if n == 0 else text
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field in ("data", "error", "event") or not text:
            if data and (not text or _is_next(data[-1], field, value)):
                yield ServerEvent("\n".join(data), name, is_utf8)
                name, data, is_utf8 = "", [], True
            if field == "event":
                name = value
            elif text:
                name = "error" if field == "error" else name
                data.append(value)
                is_utf8 = is_utf8 and line.endswith(text.encode())
        elif field not in ("", "id", "retry"):  # the empty field is a comment
            other.append(text)
    if data:
        yield ServerEvent("\n".join(data), name, is_utf8)
    if other:
        yield ServerEvent("\n".join(other), NO_EVENT)


def _is_next(data: str, field: str, value: str) -> bool:
    """Whether a field begins the next event, although no blank line ended the last one.

    No JSON has a line that begins with a brace after one that ends with a brace.
    """
    if field == "data":
        return data == "[DONE]" or (data.endswith("}") and value.startswith(("{", "[DONE]")))
    return data.endswith("}")


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Yield lines, which end with \n, \r\n or \r; U+2028 and the like may be in a text."""
    line, after_cr, size, line_size = list[bytes](), False, 0, 0
    for block in filter(None, blocks):
        size += len(block)
        if size > MAX_BYTES:
            raise ReplyError(f"sent more than {MAX_BYTES >> 20} MB for one answer.")
        end, *rest = _LINE_END.split(block.removeprefix(b"\n") if after_cr else block)
        after_cr = block.endswith(b"\r")  # its \n may begin the next block
        line.append(end)
        line_size += len(end)
        if line_size > MAX_LINE_BYTES:
            raise ReplyError(f"sent a line of more than {MAX_LINE_BYTES >> 20} MB.")
        for begun in rest:
            yield b"".join(line)
            line, line_size = [begun], len(begun)
    yield b"".join(line)
