"""Merges generators: each runs in its own thread, and items are yielded in order of arrival."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Hashable, Mapping
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from models.events import Event, Events, Queued, Stop
from models.types import Role

Name = TypeVar("Name", bound=Hashable)
Item = TypeVar("Item")
Sent = TypeVar("Sent")
TICK_S = 0.25
"""Seconds between two ticks: how often stops and deadlines are checked while streams wait."""
Streams = Mapping[Name, Generator[Item, Collection[Sent] | None, None]]


def merge_streams(
    streams: Streams[Name, Item, Sent], wait: bool = True
) -> Generator[tuple[Name, Item], Collection[tuple[Name, Sent]] | None, None]:
    """Yield each stream's items with its name; pairs (name, value) sent in go to that stream.

    At each of its steps a stream is sent all values that were ever sent to it. Closing the
    generator closes all streams, each after its current step; the first error of a stream is
    raised here, and closes the others.

    Args:
        streams: generators by name, not started yet.
        wait: whether closing waits until all streams are closed; one that hangs on the network may
            never be.
    """
    results: SimpleQueue[tuple[Name, Item] | BaseException | None] = SimpleQueue()
    sent: set[tuple[Name, Sent]] = set()
    closed = threading.Event()

    def run(name: Name, stream: Generator[Item, Collection[Sent] | None, None]) -> None:
        try:
            with closing(stream), suppress(StopIteration):
                item = next(stream)
                while not closed.is_set():
                    results.put((name, item))
                    item = stream.send({value for to, value in list(sent) if to == name} or None)
        except BaseException as error:  # re-raised in the reading thread
            results.put(error)
        else:
            results.put(None)

    threads = [
        threading.Thread(target=run, args=pair, daemon=True, name="merge_streams")
        for pair in streams.items()
    ]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                sent.update((yield result) or ())
    finally:
        closed.set()
        for thread in threads if wait else ():
            thread.join()


def ticks(while_any: Collection[object]) -> Generator[Queued, Any, None]:
    """Yield a `Queued` every `TICK_S` seconds until the collection is empty."""
    while while_any:
        yield Queued(0)
        time.sleep(TICK_S)


def with_deadline(
    streams: Mapping[Role, Generator[Event, Collection[Role] | None, None]],
    deadline_s: float | None,
    end: Callable[[Role], None],
) -> Events:
    """Yield the events of all streams; stops, deadlines and closing never wait for the network.

    `end` breaks off the connection of a stream that is stopped, late or closed.
    """
    began, running = time.monotonic(), set(streams)
    merged = merge_streams({**streams, None: ticks(running)}, wait=False)
    ended: set[tuple[Role | None, Role]] = set()
    try:
        while True:
            try:
                _, event = merged.send(ended or None)
            except StopIteration:
                return
            now = time.monotonic() - began
            late = set(running) if deadline_s is not None and now >= deadline_s else set()
            cancelled: Collection[Role] = ()
            if isinstance(event, Queued):
                cancelled = (yield event) or ()
            elif event.role in running:
                running -= {event.role} if isinstance(event, Stop) else set()
                cancelled = (yield event) or ()
            for role in sorted(running & {*late, *cancelled}):
                running.discard(role)
                ended.add((role, role))
                end(role)
                yield Stop(role, "deadline" if role in late else "cancelled", now)
            if not running:
                return
    finally:
        for role in streams:
            end(role)
        running.clear()
        merged.close()
