"""Who asks: how many answers one address waits for, and whether anybody reads what is sent."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import gradio as gr

from models import PromptError

MAX_ANSWERING = 24
"""Requests that are answered at a time; well below Gradio's 40 threads, which all events share."""
MAX_PLACES = MAX_ANSWERING // 2
"""Those of one address, behind which there may be a class."""
UNREAD_S = 5.0
"""Seconds after which a request ends if none of its messages is taken."""
Item = TypeVar("Item")


class Visitors:
    """The requests that are being answered on one page, by the addresses that sent them."""

    def __init__(self, page: gr.Blocks) -> None:
        """Begin with none; `page` has the queue in which messages wait for their readers."""
        self._page = page
        self._lock = threading.Lock()
        self._places: Counter[str] = Counter()

    @contextmanager
    def admitted(self, request: gr.Request) -> Iterator[None]:
        """Hold a place for a request until the end of the `with` block.

        Raises:
            PromptError: its address has all the places that one may have.
        """
        address = address_of(request)
        with self._lock:
            if self._places[address] >= MAX_PLACES:
                raise PromptError(
                    f"{MAX_PLACES} requests of this address are being answered or wait in the "
                    "line. Wait for one to end, or stop it."
                )
            self._places[address] += 1
        try:
            yield
        finally:
            with self._lock:
                self._places[address] -= 1
                if not self._places[address]:
                    del self._places[address]

    def while_read(self, request: gr.Request, items: Generator[Item]) -> Iterator[Item]:
        """Yield items that are sent to a request's sender, as long as somebody takes them.

        Raises:
            PromptError: nobody has for a while.
        """
        session = str(request.session_hash)

        def unread() -> int:
            messages = self._page._queue.pending_messages_per_session
            return messages[session].qsize() if session in messages else 0

        return while_taken(items, unread)


def while_taken(
    items: Generator[Item], waiting: Callable[[], int], now: Callable[[], float] = time.monotonic
) -> Iterator[Item]:
    """Yield items, as long as some of them are taken.

    Args:
        items: closed at the end.
        waiting: returns the number of items that have been yielded and not taken.
        now: the clock, in seconds.

    Raises:
        PromptError: none has been taken for `UNREAD_S` seconds. Who reads later is told so.
    """
    before, taken_s = 0, now()
    with closing(items):
        for item in items:
            yield item
            count = waiting()
            if count <= before:
                taken_s = now()
            elif now() - taken_s > UNREAD_S:
                raise PromptError(
                    f"Nothing of this answer was read for {UNREAD_S:g} seconds, so it was ended. "
                    "Ask again."
                )
            before = count


def address_of(request: gr.Request) -> str:
    """Return the address that a request comes from.

    Behind a proxy, as on a Space or where TRIPTYCH_FORWARDED is set, it is the one that the proxy
    tells; it can be invented there by whoever sends the request, which only gains them places.
    """
    if os.environ.get("SPACE_ID") or os.environ.get("TRIPTYCH_FORWARDED"):
        forwarded = str(request.headers.get("x-forwarded-for") or "")
        if address := forwarded.partition(",")[0].strip():
            return address
    return str(request.client.host) if request.client else ""
