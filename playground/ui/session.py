"""A visitor's run on a tab: how it starts, replaces an earlier one, is painted and is stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr

from models import ROLES, Backend, ModelError, Role
from playground.comparison.trio_loader import TrioLoader
from playground.ui import answer_view
from playground.ui.components import QUIET, Parts, inputs_of, to_outputs

PAINT_S = 0.07
"""Seconds between two paintings: more than 14 a second only heat the browser."""
DEADLINE_S = 180.0
"""Seconds after which answers end with what they have."""
Painted = dict[str, Any]
"""New values of a tab's parts, by the parts' names."""

Fields = TypeVar("Fields")
State = TypeVar("State")
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Run:
    """A run under way; another thread may stop it at any time."""

    stopped: set[Role] = field(default_factory=set)
    """The variants that its visitor has stopped; all of them once the run is to end."""

    def wanted(self) -> bool:
        """Return whether any variant is still to go on."""
        return len(self.stopped) < len(ROLES)


Work = Callable[[Backend, Run], Generator[Painted]]


class Session:
    """The runs on one tab: at most one at a time for each visitor who has the page open."""

    def __init__(self, loader: TrioLoader) -> None:
        """Take the trio, loaded or still loading."""
        self._loader = loader
        self._runs: dict[str, Run] = {}
        """By the visitor's session hash."""

    def run(self, visitor: str, prepare: Callable[[], Work]) -> Iterator[Painted]:
        """Prepare the work, wait for the trio and yield what the work paints; says what fails.

        The visitor's earlier run on this tab ends, and paints nothing more.
        """
        self.stop(visitor)
        run = self._runs[visitor] = Run()
        try:
            with closing(self._painted(prepare, run)) as painted:
                for parts in painted:
                    if self._runs.get(visitor) is not run:
                        return
                    yield parts
        finally:
            if self._runs.get(visitor) is run:
                del self._runs[visitor]

    def _painted(self, prepare: Callable[[], Work], run: Run) -> Generator[Painted]:
        try:
            work = prepare()
            for progress in self._loader.wait():
                if run.stopped:
                    yield done("Stopped.")
                    return
                yield busy(f"The trio is still loading: {answer_view.loading(progress)}")
            with self._loader.used() as trio:
                yield from work(trio, run)
        except ModelError as error:
            yield failed(error)

    def stop(self, visitor: str, roles: Iterable[Role] = ROLES) -> None:
        """Stop the visitor's run, or some columns of it; it ends by itself and says so."""
        if run := self._runs.get(visitor):
            run.stopped.update(roles)

    def wire_run(
        self,
        triggers: Iterable[Callable[..., Any]],
        prepare: Callable[[Fields], Work],
        fields: Callable[..., Fields],
        outputs: Collection[str],
        parts: Parts,
    ) -> None:
        """Have events run the work that `prepare` makes of the tab's fields.

        Args:
            triggers: the components' events.
            prepare: returns the work; raises where the fields cannot be used.
            fields: the dataclass of the fields, which are named like their parts.
            outputs: names of the parts that the work paints.
            parts: of the tab.
        """

        def run(request: gr.Request, *values: Any) -> Iterator[Parts]:
            painted = self.run(str(request.session_hash), lambda: prepare(fields(*values)))
            yield from to_outputs(painted, parts)

        for trigger in triggers:
            trigger(
                run,
                inputs=inputs_of(fields, parts),
                outputs=[parts[name] for name in outputs],
                trigger_mode="multiple",
                concurrency_limit=None,
                **QUIET,
            )

    def wire_stop(self, trigger: Callable[..., Any], roles: Iterable[Role] = ROLES) -> None:
        """Have an event stop the visitor's run, or some columns of it.

        Gradio's `cancels` would drop the run where it stands, and its columns would never say that
        they were stopped. It closes the run of a visitor who leaves.
        """

        def stop(request: gr.Request) -> None:
            self.stop(str(request.session_hash), roles)

        trigger(stop, concurrency_limit=None, **QUIET)


def paint(
    states: Generator[State, Any],
    show: Callable[[State], Painted],
    stopped: Callable[[], Collection[Key]] = frozenset,
    every_s: float = PAINT_S,
) -> Generator[Painted, None, State | None]:
    """Yield `show(state)` at most once in `every_s` seconds; return the last state, None for none.

    Keys (variants, cells) that `stopped()` newly names are sent into `states`, which end when all
    that is left has ended. Closing this closes `states`.
    """
    state: State | None = None
    painted_s, sent = -math.inf, frozenset[Key]()
    with closing(states):
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


def done(text: str) -> Painted:
    """Return the status line of work that has ended."""
    return {"status": {"kind": "done", "text": text}}


def failed(error: ModelError) -> Painted:
    """Return the status line of work that could not be done."""
    return {"status": {"kind": "error", "text": str(error)}}
