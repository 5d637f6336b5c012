"""One run at a time for each session that has the page open: waiting, stopping, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from models import Backend, ModelError
from playground.opening import Opening
from playground.ui import views

Painted = dict[str, Any]
Wanted = Callable[[], bool]
"""Whether the run is still wanted: nobody stopped it, and no later one took its place."""


class Runs:
    """Runs of one kind."""

    def __init__(self, opening: Opening) -> None:
        """Take the trio, open or still opening."""
        self._opening = opening
        self._running: dict[str, object] = {}

    def run(
        self, session: str, work: Callable[[Backend, Wanted], Iterator[Painted]]
    ) -> Iterator[Painted]:
        """Wait for the trio, then yield what the work yields; ends the session's earlier run.

        What it cannot do is said in the status line.
        """
        mine = self._running[session] = object()

        def wanted() -> bool:
            return self._running.get(session) is mine

        try:
            for progress in self._opening.wait():
                if not wanted():
                    yield done("Stopped.")
                    return
                yield busy(f"The trio is still loading: {views.loading(progress)}")
            yield from work(self._opening.ready(), wanted)
        except ModelError as error:
            yield {"status": {"kind": "error", "text": str(error)}}
        finally:
            if wanted():
                del self._running[session]

    def stop(self, session: str) -> None:
        """Stop the session's run; it ends by itself and says so."""
        self._running.pop(session, None)


def busy(text: str) -> Painted:
    """Return the status line of work under way."""
    return {"status": {"kind": "busy", "text": text}}


def done(text: str) -> Painted:
    """Return the status line of work that has ended."""
    return {"status": {"kind": "done", "text": text}}
