"""A page that is open to the public: nobody takes it from the others by asking a lot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice

import gradio as gr
import httpx
import pytest

from models import ROLES, PromptError
from models.backends.fake import FakeBackend
from playground.ui.server.visitors import (
    MAX_ANSWERING,
    MAX_PLACES,
    UNREAD_S,
    Visitors,
    address_of,
    while_taken,
)


def request_of(address: str, **headers: str) -> gr.Request:
    return gr.Request(client={"host": address}, headers=headers)


def test_one_address_has_a_few_places_and_gets_them_back() -> None:
    visitors = Visitors(gr.Blocks())
    here, there = request_of("10.0.0.1"), request_of("10.0.0.2")
    held = [visitors.admitted(here) for _ in range(MAX_PLACES)]
    for place in held:
        place.__enter__()
    with (
        pytest.raises(PromptError, match=f"{MAX_PLACES} requests of this address"),
        visitors.admitted(here),
    ):
        pass
    with visitors.admitted(there):
        pass
    held.pop().__exit__(None, None, None)
    with visitors.admitted(here):
        pass
    for place in held:
        place.__exit__(None, None, None)
    assert not visitors._places


def test_the_address_behind_a_proxy_is_the_one_that_it_tells(monkeypatch) -> None:
    request = request_of("10.0.0.1", **{"x-forwarded-for": "203.0.113.7, 10.0.0.9"})
    assert address_of(request) == "10.0.0.1"
    monkeypatch.setenv("TRIPTYCH_FORWARDED", "1")
    assert address_of(request) == "203.0.113.7"
    assert address_of(request_of("10.0.0.1")) == "10.0.0.1"


@pytest.mark.parametrize(
    ("taken", "yielded"),
    [
        ([0] * 40, 40),  # all are taken at once
        (range(1, 41), 21),  # none is taken, for a quarter of a second each
        ([*range(1, 20), 3, *range(4, 24)], 40),  # a slow reader takes many at a time
    ],
)
def test_what_nobody_reads_ends(taken, yielded) -> None:
    clock = iter(range(1000))
    counts, closed = iter(taken), []

    def items() -> Iterator[int]:
        try:
            yield from range(40)
        finally:
            closed.append(True)

    seconds = UNREAD_S / 20
    read = while_taken(items(), lambda: next(counts), lambda: next(clock) * seconds)
    ends = pytest.raises(PromptError, match="read for 5 seconds, so it was ended")
    with ends if yielded < 40 else nullcontext():
        yielded -= len(list(islice(read, yielded)))
        next(read, None)
    assert (yielded, closed) == (0, [True])


@pytest.fixture
def slow(serve) -> Iterator[str]:
    """Yield the address of a page whose answers take minutes; at the end nothing may run there."""
    backends: list[FakeBackend] = []

    def opener(trio, report) -> FakeBackend:
        backends.append(FakeBackend(trio, dict.fromkeys(ROLES, [" a"] * 600), 0.25))
        return backends[-1]

    yield serve(opener)
    end = time.monotonic() + 4 * UNREAD_S
    while any(backend.open_requests for backend in backends):
        assert time.monotonic() < end
        time.sleep(0.05)


def ask(url: str, http: httpx.Client, address: str) -> str:
    reply = http.post(
        f"{url}gradio_api/call/v2/compare",
        json={"text": "Tell me a joke"},
        headers={"x-forwarded-for": address},
    )
    assert reply.status_code == 200, reply.text
    return str(reply.json()["event_id"])


def first_event(url: str, http: httpx.Client, id: str) -> str:
    with http.stream("GET", f"{url}gradio_api/call/compare/{id}", timeout=30) as reply:
        lines = reply.iter_lines()
        return f"{next(lines)} {next(lines)}"


def last_event(url: str, http: httpx.Client, id: str) -> str:
    reply = http.get(f"{url}gradio_api/call/compare/{id}", timeout=30)
    return reply.text.strip().rpartition("\n\n")[2]


def test_requests_that_nobody_reads_hold_nobody_up(slow, monkeypatch) -> None:
    monkeypatch.setenv("TRIPTYCH_FORWARDED", "1")
    with httpx.Client() as http:
        unread = [ask(slow, http, f"10.0.0.{n % 16}") for n in range(41)]
        began = time.monotonic()
        # What answers at once does so: the timer's event asks no queue.
        config = http.get(f"{slow}config").json()
        stop = next(
            d for d in config["dependencies"] if not d["queue"] and not d["inputs"] and d["targets"]
        )
        reply = http.post(
            f"{slow}gradio_api/run/predict",
            json={"data": [], "fn_index": stop["id"], "session_hash": "me"},
        )
        assert reply.status_code == 200
        assert time.monotonic() - began < 2
        # Who reads too late is told that the answer was cut, and why.
        time.sleep(max(0, began + 1.5 * UNREAD_S - time.monotonic()))
        told_late = last_event(slow, http, unread[0])
        assert "event: error" in told_late
        assert "so it was ended" in told_late
        # An answer begins within seconds, once the unread ones have ended.
        assert "generating" in first_event(slow, http, ask(slow, http, "192.0.2.1"))
        assert time.monotonic() - began < 3 * UNREAD_S
        assert len(unread) > MAX_ANSWERING


def test_one_address_is_told_that_its_places_are_taken(slow) -> None:
    with httpx.Client() as http:
        ids = [ask(slow, http, "10.0.0.1") for _ in range(MAX_PLACES + 1)]
        told = [first_event(slow, http, id) for id in ids]
    assert sum("requests of this address" in event for event in told) == 1


def test_more_new_tokens_than_the_pages_slider_has_are_refused(slow) -> None:
    with httpx.Client() as http:
        reply = http.post(
            f"{slow}gradio_api/call/v2/compare", json={"text": "x", "max_new_tokens": 100_000}
        )
        event = first_event(slow, http, reply.json()["event_id"])
    assert "max_new_tokens is 100000; here it is at most 512" in event
