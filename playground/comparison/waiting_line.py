"""A line in which requests wait for their turn, in order of arrival."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

TICK_S = 0.25
"""Seconds after which a request in the line is told its place again, and can be stopped."""


class WaitingLine:
    """Requests in order of arrival, the first few of which have their turn."""

    def __init__(self, turns: int) -> None:
        """Create an empty line; `turns` requests have their turn at a time."""
        self._turns = turns
        self._changed = threading.Condition()
        self._line: list[object] = []

    def __len__(self) -> int:
        """Return the number of requests, those that have their turn included."""
        return len(self._line)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for their turn."""
        return max(0, len(self._line) - self._turns)

    @contextmanager
    def joined(self) -> Iterator[Iterator[int]]:
        """Join the line, and leave it at the end of the `with` block.

        Yields an iterator of the request's place, 1 being next, which ends when its turn has come.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            yield self._places(ticket)
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _places(self, ticket: object) -> Iterator[int]:
        while (place := self._line.index(ticket) + 1 - self._turns) > 0:
            yield place
            with self._changed:
                self._changed.wait(TICK_S)
