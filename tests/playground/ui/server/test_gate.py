"""The gate before Gradio: bodies that come in parts, never end, or break off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from playground.ui.server import gate
from playground.ui.server.gate import MAX_BODY, Gate


def answer(parts: Iterable[dict[str, Any]], method: str = "POST") -> tuple[int, list[Any]]:
    """The status of the answer to a request whose body comes so, and what the app received."""
    received, statuses, left = [], [], iter(parts)

    async def app(scope, receive, send) -> None:
        received.append(await receive())
        received.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        if (part := next(left, None)) is None:
            await asyncio.sleep(60)
        return part

    async def send(message) -> None:
        statuses.append(message.get("status"))

    scope = {"type": "http", "method": method, "path": "/gradio_api/queue/join", "headers": []}
    with ThreadPoolExecutor(1) as pool:  # this thread may have a loop, of the browser's
        pool.submit(asyncio.run, Gate(app)(scope, receive, send)).result()
    return statuses[0], received


def part(size: int, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


GONE = {"type": "http.disconnect"}


def test_a_body_in_parts_reaches_gradio_whole_and_then_what_comes_after_it() -> None:
    status, received = answer([part(3), part(4), part(5, more=False), GONE])
    assert status == 200
    assert received == [part(12, more=False), GONE]


def test_a_body_without_length_is_refused_where_it_becomes_too_large() -> None:
    parts = iter([part(MAX_BODY // 2)] * 9)
    assert answer(parts) == (413, [])
    assert len(list(parts)) == 6


def test_a_body_that_does_not_end_or_breaks_off_reaches_nobody(monkeypatch) -> None:
    monkeypatch.setattr(gate, "BODY_S", 0.05)
    assert answer([part(3)]) == (408, [])
    assert answer([part(3), GONE]) == (400, [])


def test_what_has_no_body_passes_as_it_is() -> None:
    assert answer([part(0, more=False), GONE], "GET") == (200, [part(0, more=False), GONE])
