"""A visitor's run on a tab: throttles what it paints, and passes on which variants are stopped.

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
"""Seconds between two updates of the page: more than 14 a second only burden the browser."""
DEADLINE_S = 180.0
"""Seconds after which answers are cut off, and readings of a text end."""
SHOWN_CHARACTERS = 200
"""Characters of an error's beginning that are shown, and as many of its end."""
Painted = dict[str, Any]
"""New values of a tab's parts, by the parts' names."""
State = TypeVar("State")
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True, eq=False)
class Run:
    """One run; another thread may stop it at any time."""

    stopped: set[Role] = field(default_factory=set)
    """The variants that the visitor has stopped; the run ends when it contains all."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the run has painted for the last time."""
    until_s: float = math.inf
    """Time of the monotonic clock at which the run ends by itself."""

    others: Callable[[], bool] = lambda: False
    """Returns whether others have answers generated."""

    def wanted(self) -> bool:
        """Return whether any variant is not stopped, and there is time left."""
        return len(self.stopped) < len(ROLES) and time.monotonic() < self.until_s

    def stop_reason(self) -> str:
        """Return why the run is not wanted any more, as the beginning of a sentence."""
        return "Stopped" if len(self.stopped) == len(ROLES) else "Its time is over"


Work = Callable[[Backend, Run], Generator[Painted]]
"""Performs the action of a tab's button, and yields the values to paint."""


def paint(
    states: Generator[State, Any],
    show: Callable[[State], Painted],
    stopped: Callable[[], Collection[Key]] = frozenset,
    every_s: float = PAINT_S,
    initial: State | None = None,
) -> Generator[Painted, None, State | None]:
    """Yield `show(state)` at most once in `every_s` seconds; return the last state, None for none.

    `initial` is shown immediately, before the first of `states` is available.

    Keys (variants or cells) that `stopped()` newly returns are sent into `states`, to cancel them;
    `states` ends when all its answers have ended. Closing the generator closes `states`.
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
    """Yield states, and end after the first one at which the run is stopped."""
    with closing(states):
        for state in states:
            yield state
            if not run.wanted():
                return


def busy(text: str) -> Painted:
    """Return the status line of running work."""
    return {"status": {"kind": "busy", "text": text}}


def cleared() -> Painted:
    """Return an empty status line."""
    return {"status": {"kind": "", "text": ""}}


def done(text: str) -> Painted:
    """Return the status line of finished work."""
    return {"status": {"kind": "done", "text": text}}


def failed(error: ModelError | str) -> Painted:
    """Return the status line of failed work."""
    return {"status": {"kind": "error", "text": short(str(error))}}


def short(message: str) -> str:
    """Return a message without its middle if it is long, as when it repeats what somebody sent."""
    if len(message) <= 2 * SHOWN_CHARACTERS:
        return message
    return f"{message[:SHOWN_CHARACTERS]}…{message[-SHOWN_CHARACTERS:]}"
