"""A trio that opens in the background, so that nobody waits for a blank page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from models import Backend, ModelError, Progress, Trio, open_backend

Open = Callable[[Trio, Callable[[Progress], None]], Backend]


class Opening:
    """Opens a trio in a thread of its own; says how far it has come, and then what answers."""

    def __init__(self, trio: Trio, opener: Open = open_backend) -> None:
        """Begin at once."""
        self.trio = trio
        self.progress = Progress("Starting", 0.0)
        self.error: str | None = None
        self.backend: Backend | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._open, args=(opener,), daemon=True).start()

    def _open(self, opener: Open) -> None:
        try:
            self.backend = opener(self.trio, self._report)
        except ModelError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = f"The trio could not be opened: {error!r}. The log has the whole story."
            raise
        finally:
            self._ended.set()

    def _report(self, progress: Progress) -> None:
        self.progress = progress

    def wait(self, tick_s: float = 0.25) -> Iterator[Progress]:
        """Yield how far it has come, at least every `tick_s` seconds, until the trio is open.

        Raises:
            ModelError: it cannot be opened.
        """
        while not self._ended.wait(tick_s):
            yield self.progress
        self.ready()

    def ready(self) -> Backend:
        """Return what answers.

        Raises:
            ModelError: it is not open yet, or cannot be opened.
        """
        if self.error:
            raise ModelError(self.error)
        if self.backend is None:
            raise ModelError("The trio is still loading. Try again in a moment.")
        return self.backend
