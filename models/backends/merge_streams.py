"""Several generators as one: each runs in a thread of its own, what they yield comes in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator, Hashable, Mapping
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from models.events import Event, Events, Queued, Stop
from models.types import Role

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
S = TypeVar("S")
TICK_S = 0.25
"""A stop or a deadline is heard this often, whatever a stream waits for."""
Streams = Mapping[K, Generator[T, Collection[S] | None, None]]


def merge_streams(
    streams: Streams[K, T, S], wait: bool = True
) -> Generator[tuple[K, T], Collection[tuple[K, S]] | None, None]:
    """Yield what each stream yields, with its name; what is sent in goes to the stream it names.

    A stream is sent all that it was ever sent, with each of its steps. Closing it closes them all,
    each when its step under way is over; the first error of one is raised, and closes the others.

    Args:
        streams: by name; they have not been begun.
        wait: whether closing waits until all are closed. Those that hang on a network may not be.
    """
    heard: SimpleQueue[tuple[K, T] | BaseException | None] = SimpleQueue()
    sent: set[tuple[K, S]] = set()
    over = threading.Event()

    def run(name: K, stream: Generator[T, Collection[S] | None, None]) -> None:
        try:
            with closing(stream), suppress(StopIteration):
                one = next(stream)
                while not over.is_set():
                    heard.put((name, one))
                    one = stream.send({what for whom, what in list(sent) if whom == name} or None)
        except BaseException as error:  # raised where it is heard
            heard.put(error)
        else:
            heard.put(None)

    threads = [
        threading.Thread(target=run, args=each, daemon=True, name="merged")
        for each in streams.items()
    ]
    for thread in threads:
        thread.start()
    try:
        left = len(threads)
        while left:
            told = heard.get()
            if isinstance(told, BaseException):
                raise told
            if told is None:
                left -= 1
            else:
                sent.update((yield told) or ())
    finally:
        over.set()
        for thread in threads if wait else ():
            thread.join()


def clock(left: Collection[object]) -> Generator[Queued, Any, None]:
    """Yield now and then while there is something left."""
    while left:
        yield Queued(0)
        time.sleep(TICK_S)


def until(
    streams: Mapping[Role, Generator[Event, Collection[Role] | None, None]],
    deadline_s: float | None,
) -> Events:
    """Yield the events of all; a stop, a deadline or a close waits for no network."""
    began, left = time.monotonic(), set(streams)
    both = merge_streams({**streams, None: clock(left)}, wait=False)
    ended: set[tuple[Role | None, Role]] = set()
    try:
        while True:
            try:
                _, event = both.send(ended or None)
            except StopIteration:
                return
            now = time.monotonic() - began
            over = set(left) if deadline_s is not None and now >= deadline_s else set()
            unwanted: Collection[Role] = ()
            if isinstance(event, Queued):
                unwanted = (yield event) or ()
            elif event.role in left:
                left -= {event.role} if isinstance(event, Stop) else set()
                unwanted = (yield event) or ()
            for role in sorted(left & {*over, *unwanted}):
                left.discard(role)
                ended.add((role, role))
                yield Stop(role, "deadline" if role in over else "cancelled", now)
            if not left:
                return
    finally:
        left.clear()
        both.close()
