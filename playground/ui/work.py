"""A visitor's run on a tab: what it paints, how often, and how it hears that it is stopped.

Imports no Gradio; `session.py` starts, replaces and stops runs.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Generator, Hashable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models import ROLES, Backend, ModelError, Role

PAINT_S = 0.07
"""Seconds between two paintings: more than 14 a second only heat the browser."""
DEADLINE_S = 180.0
"""Seconds after which answers end with what they have."""
Painted = dict[str, Any]
"""New values of a tab's parts, by the parts' names."""
State = TypeVar("State")
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class Run:
    """A run under way; another thread may stop it at any time."""

    stopped: set[Role] = field(default_factory=set)
    """The variants that its visitor has stopped; all of them once the run is to end."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the run paints nothing more."""

    def wanted(self) -> bool:
        """Return whether any variant is still to go on."""
        return len(self.stopped) < len(ROLES)


Work = Callable[[Backend, Run], Generator[Painted]]
"""Does what a tab's button asks for, and yields what is to be painted."""


def paint(
    states: Generator[State, Any],
    show: Callable[[State], Painted],
    stopped: Callable[[], Collection[Key]] = frozenset,
    every_s: float = PAINT_S,
    initial: State | None = None,
) -> Generator[Painted, None, State | None]:
    """Yield `show(state)` at most once in `every_s` seconds; return the last state, None for none.

    `initial` is shown at once, before the first of `states` is there.

    Keys (variants, cells) that `stopped()` newly names are sent into `states`, which end when all
    that is left has ended. Closing this closes `states`.
    """
    state = initial
    painted_s, sent = -math.inf, frozenset[Key]()
    with closing(states):
        if initial is not None:
            yield show(initial)
            painted_s = time.monotonic()
        try:
            state = next(states)
            while True:
                if time.monotonic() - painted_s >= every_s:
                    painted_s = time.monotonic()
                    yield show(state)
                now = frozenset(stopped())
                new, sent = now - sent, now
                state = states.send(new or None)
        except StopIteration:
            return state


def while_wanted(states: Generator[State], run: Run) -> Generator[State]:
    """Yield states until the run is stopped, the one at which it was seen included."""
    with closing(states):
        for state in states:
            yield state
            if not run.wanted():
                return


def busy(text: str) -> Painted:
    """Return the status line of work under way."""
    return {"status": {"kind": "busy", "text": text}}


def cleared() -> Painted:
    """Return an empty status line."""
    return {"status": {"kind": "", "text": ""}}


def done(text: str) -> Painted:
    """Return the status line of work that has ended."""
    return {"status": {"kind": "done", "text": text}}


def failed(error: ModelError | str) -> Painted:
    """Return the status line of work that could not be done."""
    return {"status": {"kind": "error", "text": str(error)}}
