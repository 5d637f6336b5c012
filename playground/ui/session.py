"""One run at a time for each session that has the page open: waiting, stopping, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from models import Backend, ModelError
from playground.comparison.trio_loader import TrioLoader
from playground.ui import answer_view

Painted = dict[str, Any]
Wanted = Callable[[], bool]
"""Whether the run is still wanted: nobody stopped it, and no later one took its place."""
_STOPPED = object()


class Runs:
    """Runs of one kind."""

    def __init__(self, opening: TrioLoader) -> None:
        """Take the trio, open or still opening."""
        self._opening = opening
        self._running: dict[str, object] = {}
        """For each session its newest run; `_STOPPED` once nobody wants it."""

    def run(
        self, session: str, work: Callable[[Backend, Wanted], Generator[Painted]]
    ) -> Iterator[Painted]:
        """Wait for the trio, then yield what the work yields; ends the session's earlier run.

        What it cannot do is said in the status line.
        """
        mine = self._running[session] = object()

        def wanted() -> bool:
            return self._running.get(session) is mine

        def replaced() -> bool:
            return self._running.get(session) not in (mine, _STOPPED, None)

        painted = self._painted(work, wanted)
        try:
            with closing(painted):
                for told in painted:
                    if replaced():  # the parts belong to a later run
                        return
                    yield told
        finally:
            if not replaced():
                self._running.pop(session, None)

    def _painted(
        self, work: Callable[[Backend, Wanted], Generator[Painted]], wanted: Wanted
    ) -> Generator[Painted]:
        try:
            for progress in self._opening.wait():
                if not wanted():
                    yield done("Stopped.")
                    return
                yield busy(f"The trio is still loading: {answer_view.loading(progress)}")
            with self._opening.used() as trio:
                yield from work(trio, wanted)
        except ModelError as error:
            yield {"status": {"kind": "error", "text": str(error)}}

    def stop(self, session: str) -> None:
        """Stop the session's run; it ends by itself and says so."""
        if session in self._running:
            self._running[session] = _STOPPED


def busy(text: str) -> Painted:
    """Return the status line of work under way."""
    return {"status": {"kind": "busy", "text": text}}


def done(text: str) -> Painted:
    """Return the status line of work that has ended."""
    return {"status": {"kind": "done", "text": text}}
