"""The visitors of a page: their places, whether they read, and what Gradio keeps of them."""

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
from playground.comparison.waiting_line import WaitingLine
from playground.lens.reading import READINGS

MAX_ANSWERING = 24
"""Requests that are answered at a time."""
MAX_WAITING = 64
"""Further ones that may wait in the line."""
MAX_PLACES = MAX_ANSWERING // 2
"""Requests of one address in both, behind which there may be a class."""
MAX_THREADS = MAX_ANSWERING + MAX_WAITING + 16
"""Gradio's threads and job slots: one for each request, and some for what is answered at once."""
MAX_SESSIONS = 64
"""Sessions of which Gradio keeps something: about 0.5 MB each, a copy of all components."""
MAX_UNREAD = 256
"""Sessions whose messages Gradio keeps until they are read; more than can wait or be answered."""
UNREAD_S = 5.0
"""Seconds after which a request ends if none of its messages is taken."""
Item = TypeVar("Item")


class Visitors:
    """The requests that are being answered on one page, by the addresses that sent them."""

    def __init__(self, page: gr.Blocks) -> None:
        """Begin with none; `page` has the queue in which messages wait for their readers."""
        self.line = WaitingLine(MAX_ANSWERING)
        """Requests that are answered, and those that wait for it."""
        self._page = page
        self._lock = threading.Lock()
        self._places: Counter[str] = Counter()

    @contextmanager
    def admitted(self, request: gr.Request) -> Iterator[None]:
        """Hold a place for a request until the end of the `with` block; then forget its session.

        Raises:
            PromptError: its address has all the places that one may have, or the line is full.
        """
        address = address_of(request)
        with self._lock:
            if self.line.waiting >= MAX_WAITING:
                raise PromptError(
                    f"{MAX_ANSWERING} requests are being answered, and {MAX_WAITING} wait in the "
                    "line. Try again in a minute."
                )
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
            self._forget(str(request.session_hash))

    def others_answer(self) -> bool:
        """Return whether requests are answered or wait that are not texts to be read."""
        return len(self.line) > len(READINGS)

    def while_read(self, request: gr.Request, items: Generator[Item]) -> Iterator[Item]:
        """Yield items that are sent to a request's sender, as long as somebody takes them.

        Raises:
            PromptError: nobody has for a while.
        """
        messages = self._page._queue.pending_messages_per_session
        session = str(request.session_hash)

        def unread() -> int:
            if session not in messages:
                return 0
            messages.move_to_end(session)  # Gradio drops the first ones when there are too many
            return int(messages[session].qsize())

        try:
            yield from while_taken(items, unread)
        except PromptError:
            while unread():
                messages[session].get_nowait()
            raise

    def _forget(self, session: str) -> None:
        """Drop what Gradio keeps of a session, which nothing here reads back.

        It is a copy of every component's settings, the values last shown, which may be megabytes,
        and ids of events whose messages are gone.
        """
        self._page.app.state_holder.session_data.pop(session, None)
        self._page.app.state_holder.time_last_used.pop(session, None)
        queue = self._page._queue
        for other in list(queue.pending_event_ids_session):
            if other not in queue.pending_messages_per_session:
                queue.pending_event_ids_session.pop(other, None)


def bound_queue(page: gr.Blocks) -> None:
    """Start a page's queue, and bound what it keeps of events that have ended."""
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=None)
    page._queue.pending_messages_per_session.max_size = MAX_UNREAD
    # Gradio makes a table of all these events whenever one ends.
    page._queue.ANALYTICS_MAX_EVENTS = MAX_SESSIONS


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
