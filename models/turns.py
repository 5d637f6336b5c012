"""A fair queue of one: who came first goes first, and everyone can see how many are ahead."""

from __future__ import annotations

import threading
from collections.abc import Generator


class Turns:
    """Hands out turns in the order of asking. May be waited for and left on any thread."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._changed = threading.Condition(threading.Lock())
        self._line: list[object] = []

    def wait(self, ticket: object, tick_s: float = 0.25) -> Generator[int, None, None]:
        """Join the line and yield how many are ahead until the turn comes.

        Yields on every change and at least every `tick_s` seconds. Whoever waits leaves by `leave`,
        also when the wait is broken off.
        """
        with self._changed:
            self._line.append(ticket)
        while True:
            with self._changed:
                ahead = self._line.index(ticket)
            if ahead == 0:
                return
            yield ahead
            with self._changed:
                self._changed.wait(tick_s)

    def leave(self, ticket: object) -> None:
        """Give the turn back, or leave the line; once is enough, more does nothing."""
        with self._changed:
            if ticket in self._line:
                self._line.remove(ticket)
            self._changed.notify_all()
