"""A public page under load, for as many seconds as TRIPTYCH_SOAK says; docs/security.md.

The page is a process of its own over scripted trios; each test prints its figures.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from urllib.parse import urlsplit

import httpx
import pytest
from page_server import PageProcess, page_process

SECONDS = float(os.environ.get("TRIPTYCH_SOAK") or 0)
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not SECONDS, reason="TRIPTYCH_SOAK does not say how many seconds it lasts"),
]
CALLERS = 50
WARM_ROUNDS = 25
"""Rounds of hostile requests before memory is compared."""
GROWTH_MB = 20.0
"""Most memory that a page may gain once it is warm."""
CALL_THREADS = 3
"""Threads that a single call may leave idle."""
IDLE_S = 12.0
"""Seconds after which threads and sockets that are not used any more may go."""


@pytest.fixture(scope="module")
def page() -> Iterator[PageProcess]:
    with page_process(tokens=30, delay_s=0.005) as page:
        warm_end = time.monotonic() + 10
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda n: calls(page, n, warm_end), range(CALLERS)))
        yield page


def address(caller: int) -> str:
    return f"10.1.{caller // 200}.{caller % 200}"


def calls(page: PageProcess, caller: int, end: float) -> list[tuple[float, float, str]]:
    """Call until `end`; return seconds to the first event and to the last, and the last one."""
    chance, timings = random.Random(caller), []
    headers = {"x-forwarded-for": address(caller)}
    with httpx.Client(timeout=120, headers=headers) as http:
        while time.monotonic() < end:
            endpoint = chance.choice(["compare", "compare", "compare", "grid", "lens"])
            body = {"text": f"word{chance.random()} " * chance.randint(1, 60)}
            began = time.monotonic()
            reply = http.post(f"{page.api}call/v2/{endpoint}", json=body)
            assert reply.status_code == 200, reply.text
            first, last = 0.0, ""
            url = f"{page.api}call/{endpoint}/{reply.json()['event_id']}"
            with http.stream("GET", url) as stream:
                for line in stream.iter_lines():
                    first = first or time.monotonic() - began
                    last = line if line.startswith("event: ") else last
            timings.append((first, time.monotonic() - began, last))
    return timings


def settled(page: PageProcess) -> tuple[int, int, float]:
    """Return threads, descriptors and memory (MB) of a page that nobody asks any more."""
    time.sleep(IDLE_S)
    # Threads that have been idle are let go when the next call takes one.
    assert page.call("compare", "192.0.2.1", text="Are you there?").startswith("event: complete")
    time.sleep(1)
    return page.threads(), page.descriptors(), page.memory_mb()


def test_50_callers_are_all_answered_and_leave_nothing(page) -> None:
    threads, descriptors, memory = settled(page)
    end = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CALLERS) as pool:
        timings = list(chain.from_iterable(pool.map(lambda n: calls(page, n, end), range(CALLERS))))
    failed = [last for *_, last in timings if last != "event: complete"]
    assert not failed, f"{len(failed)} of {len(timings)}, such as {failed[:3]}"
    firsts = sorted(first for first, *_ in timings)
    wholes = sorted(whole for _, whole, _ in timings)
    p95 = int(0.95 * len(timings))
    threads_after, descriptors_after, memory_after = settled(page)
    growth = memory_after - memory
    print(
        f"\n{len(timings)} calls of {CALLERS} callers in {SECONDS:g} s, all answered; first event: "
        f"median {firsts[len(firsts) // 2]:.2f} s, p95 {firsts[p95]:.2f} s; whole answer: p95 "
        f"{wholes[p95]:.2f} s; memory {memory:.0f} MB {growth:+.1f}; threads {threads} → "
        f"{threads_after}; descriptors {descriptors} → {descriptors_after}"
    )
    assert growth < GROWTH_MB
    assert threads_after <= threads + CALL_THREADS
    assert descriptors_after <= descriptors


def test_200_dropped_connections_leave_nothing(page) -> None:
    threads, descriptors, memory = settled(page)
    host = urlsplit(page.url).netloc.split(":")
    for n in range(200):
        id = page.ask("compare", address(n % CALLERS), text="Tell me a joke", max_new_tokens=512)
        with socket.create_connection((host[0], int(host[1])), 10) as connection:
            path = f"/gradio_api/call/compare/{id}" if n % 2 else "/gradio_api/heartbeat/x"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host[0]}\r\n\r\n".encode())
            assert connection.recv(64)
    threads_after, descriptors_after, memory_after = settled(page)
    growth = memory_after - memory
    print(
        f"\n200 dropped connections: memory {growth:+.1f} MB; threads {threads} → {threads_after}; "
        f"descriptors {descriptors} → {descriptors_after}"
    )
    assert growth < GROWTH_MB
    assert threads_after <= threads + CALL_THREADS
    assert descriptors_after <= descriptors


MEGABYTE = "x" * 1_000_000
HOSTILE = [
    {"text": MEGABYTE},
    {"text": [MEGABYTE]},
    {"text": ""},
    {"text": "x", "trio": MEGABYTE},
    {"text": "x", "trio": []},
    {"text": "x", "examples": [MEGABYTE]},
    {"text": "x", "examples": 5},
    {"text": "x", "format": {}},
    {"text": "x", "max_new_tokens": 10**300},
    {"text": "x", "bogus": MEGABYTE},
    {"bogus": 1},
]


def test_hostile_calls_are_short_errors_and_leave_nothing(page) -> None:
    def round_trip() -> None:
        for endpoint in ("compare", "grid", "lens"):
            for body in HOSTILE:
                if endpoint == "lens" and body == {"text": MEGABYTE}:
                    continue  # is read, as far as the context goes
                reply = page.http.post(f"{page.api}call/v2/{endpoint}", json=body)
                if reply.status_code == 200:
                    message = page.messages(endpoint, reply.json()["event_id"])[-1]
                    assert message.startswith("event: error"), message[:200]
                    assert "null" not in message
                    assert len(message) < 700
                else:
                    assert reply.status_code == 400
                    assert len(reply.text) < 700
        for name, content in [("a.exe", b"x"), ("a.csv", b"x" * (9 << 20))]:
            reply = page.http.post(f"{page.api}upload", files=[("files", (name, content))])
            assert reply.status_code == 413
        reply = page.http.post(f"{page.api}call/v2/compare", content=b"[" * 1_000_000)
        assert reply.status_code in (400, 422)

    for _ in range(WARM_ROUNDS):
        round_trip()
    # Gradio leaves a refused call to the garbage collector, which comes now and then: up to 50 MB
    # of such calls are there. What lasts is the least, of the first and last quarter.
    memory, began = list[float](), time.monotonic()
    while len(memory) < 20 or time.monotonic() - began < SECONDS / 5:
        round_trip()
        memory.append(page.memory_mb())
    quarter = len(memory) // 4
    growth = min(memory[-quarter:]) - min(memory[:quarter])
    print(
        f"\n{len(memory)} rounds of {3 * len(HOSTILE) + 2} hostile requests: "
        f"memory {growth:+.1f} MB, {max(memory) - min(memory):.0f} MB up and down"
    )
    assert growth < GROWTH_MB


def test_sigterm_with_40_running_ends_the_process(page) -> None:
    for n in range(40):
        page.ask("compare", address(n), text="Tell me a joke", max_new_tokens=512)
    began = time.monotonic()
    page.process.send_signal(signal.SIGTERM)
    page.process.wait(10)
    seconds = time.monotonic() - began
    print(f"\nSIGTERM with 40 running: {seconds:.1f} s, status {page.process.returncode}")
    assert seconds < 3
    assert page.process.returncode == 0
