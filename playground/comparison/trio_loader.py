"""Trios that open in the background, when somebody first wants them: nobody waits for a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from models import Backend, ModelError, Progress, ProgressCallback, Trio, open_backend

Open = Callable[[Trio, ProgressCallback], Backend]
IDLE_S = 180.0
"""A trio that nobody has used for so long is closed when another one is asked for."""


class TrioLoader:
    """Opens a trio in a thread of its own; says how far it has come, and then what answers."""

    def __init__(self, trio: Trio, opener: Open = open_backend) -> None:
        """Begin when it is first asked for."""
        self.trio = trio
        self.progress = Progress("Starting", 0.0)
        self.error: str | None = None
        self.backend: Backend | None = None
        self.beside: Sequence[TrioLoader] = ()
        """Others that take the same memory: those that nobody uses are closed for this one."""
        self._opener = opener
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None
        """Of the opening under way or done; None while it is closed."""
        self._users = 0
        self._used = 0.0

    def begin(self) -> threading.Event:
        """Open it, unless that has begun; returns what is set when it is over."""
        for other in self.beside:
            other.close_if_idle()
        with self._lock:
            self._used = time.monotonic()
            if self._ended is None:
                self.progress, self.error = Progress("Starting", 0.0), None
                self._ended = threading.Event()
                threading.Thread(target=self._open, args=(self._ended,), daemon=True).start()
            return self._ended

    def retry(self) -> None:
        """Forget an opening that failed: the next one who wants the trio begins anew."""
        with self._lock:
            if self.error:
                self._ended = None

    def _open(self, ended: threading.Event) -> None:
        try:
            backend = self._opener(self.trio, self._report)
            with self._lock:
                self.backend, self._used = backend, time.monotonic()
        except ModelError as error:
            self.error = str(error)
        except BaseException as error:
            self.error = f"The trio could not be opened: {error!r}. The log has the whole story."
            raise
        finally:
            ended.set()

    def _report(self, progress: Progress) -> None:
        self.progress = progress

    def wait(self, tick_s: float = 0.25) -> Iterator[Progress]:
        """Yield how far it has come, at least every `tick_s` seconds, until the trio is open.

        Raises:
            ModelError: it cannot be opened.
        """
        ended = self.begin()
        while not ended.wait(tick_s):
            yield self.progress
        try:
            self.ready()
        except ModelError:
            self.retry()
            raise

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

    @contextmanager
    def used(self) -> Iterator[Backend]:
        """Yield what answers, and keep it open as long.

        Raises:
            ModelError: it is not open yet, or cannot be opened.
        """
        with self._lock:
            backend = self.ready()
            self._users += 1
        try:
            yield backend
        finally:
            with self._lock:
                self._users -= 1
                self._used = time.monotonic()

    def close_if_idle(self, idle_s: float = IDLE_S) -> None:
        """Free the weights if nobody has used them for a while; they are opened again on demand."""
        with self._lock:
            backend = self.backend
            if backend is None or self._users or time.monotonic() - self._used < idle_s:
                return
            self.backend, self._ended = None, None
        backend.close()


def load_trios(trios: Sequence[Trio], opener: Open = open_backend) -> list[TrioLoader]:
    """Return an opening for each trio, the first one begun; they make room for each other."""
    openings = [TrioLoader(trio, opener) for trio in trios]
    for one in openings:
        one.beside = [other for other in openings if other is not one]
    openings[0].begin()
    return openings
