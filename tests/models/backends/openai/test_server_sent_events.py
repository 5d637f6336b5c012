"""Event streams, cut into blocks at any byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backends.openai.errors import ReplyError
from models.backends.openai.reply import ReplyReader
from models.backends.openai.server_sent_events import MAX_LINE_BYTES, read_events

ALWAYS = settings(derandomize=True, deadline=None, database=None)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=5)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
STREAM_LINES = st.sampled_from(
    ["data", "data:", "data: {}", 'data: {"choices":', "data: [DONE]", ": ping", "event: error",
     "error: x", "id: 1", "", '{"error": "x"}', "<html>", "\ufeffdata: {}", "\x00"]
)  # fmt: skip


def stream(texts: list[str], end: str, comments: bool) -> bytes:
    events = [
        json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False)
        for text in texts
    ]
    ping = f": ping{end}{end}" if comments else ""
    return "".join(f"{ping}data: {event}{end}{end}" for event in events).encode()


def blocks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def read_all(parts: list[bytes]) -> str:
    reader = ReplyReader()
    return "".join(reader.read(event).text for event in read_events(parts))


@ALWAYS
@given(TEXTS, ENDS, st.booleans(), st.lists(st.integers(0, 999), max_size=12))
def test_where_a_stream_is_cut_into_blocks_changes_nothing(texts, end, comments, cuts) -> None:
    data = stream(texts, end, comments)
    assert read_all(blocks(data, cuts)) == "".join(texts)
    assert read_all([bytes([byte]) for byte in data]) == "".join(texts)


@ALWAYS
@given(TEXTS, ENDS, st.integers(0, 999))
def test_a_stream_that_ends_anywhere_gives_a_beginning_of_its_text(texts, end, place) -> None:
    data = stream(texts, end, comments=True)
    reader, text = ReplyReader(), ""
    with suppress(ReplyError):
        for event in read_events([data[: place % (len(data) + 1)]]):
            text += reader.read(event).text
    assert "".join(texts).startswith(text)


@ALWAYS
@given(st.lists(STREAM_LINES, max_size=8), ENDS, st.lists(st.integers(0, 999), max_size=6))
def test_lines_in_any_order_are_events_wherever_they_are_cut(lines, end, cuts) -> None:
    data = end.join(lines).encode()
    assert list(read_events(blocks(data, cuts))) == list(read_events([data]))


@ALWAYS
@given(st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_a_reply_error(data) -> None:
    reader = ReplyReader()
    for event in read_events([data]):
        with suppress(ReplyError):
            reader.read(event)
    with suppress(ReplyError):
        reader.end()


def test_a_line_without_end_is_given_up_at_4_mb() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 4096
            yield b"x" * 4096

    with pytest.raises(ReplyError, match=r"sent a line of more than 4 MB\."):
        list(read_events(endless()))
    assert taken == MAX_LINE_BYTES + 4096


def test_lines_of_less_than_4_mb_are_read_whatever_their_sum() -> None:
    lines = [b"data: " + b"x" * (3 << 20) + b"\n\n"] * 3
    assert [len(event.data) for event in read_events(lines)] == [3 << 20] * 3
