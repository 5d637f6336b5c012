"""A fair queue of one: who came first goes first, and everyone can see how many are ahead."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator

from models.types import Queued, Role


class Turns:
    """Hands out turns in the order of asking. May be waited for and left on any thread."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._changed = threading.Condition(threading.Lock())
        self._changes = 0
        """How often somebody has left: a waiter sees whether it has missed one."""
        self._line: list[object] = []

    def wait(
        self, ticket: object, everyone: Collection[Role], tick_s: float = 0.25
    ) -> Generator[Queued, Collection[Role] | None, set[Role]]:
        """Join the line and yield how many are ahead until the turn comes.

        Yields on every change and at least every `tick_s` seconds, and 0 ahead at the end of a
        wait. Whoever waits leaves by `leave`, also when the wait is broken off.

        Returns:
            The roles that were sent in meanwhile; when they are `everyone`, the wait is over.
        """
        stopped: set[Role] = set()
        with self._changed:
            self._line.append(ticket)
            ahead, seen = self._line.index(ticket), self._changes
        while ahead:
            stopped |= set((yield Queued(ahead)) or ())
            if stopped >= set(everyone):
                return stopped
            with self._changed:
                if seen == self._changes:
                    self._changed.wait(tick_s)
                ahead, seen = self._line.index(ticket), self._changes
            if not ahead:
                stopped |= set((yield Queued(0)) or ())
        return stopped

    def leave(self, ticket: object) -> None:
        """Give the turn back, or leave the line; once is enough, more does nothing."""
        with self._changed:
            if ticket in self._line:
                self._line.remove(ticket)
                self._changes += 1
            self._changed.notify_all()
