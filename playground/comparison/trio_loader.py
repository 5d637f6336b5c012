"""Trios that load in the background once somebody wants one, so that the page is there at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from models import Backend, ModelError, Progress, ProgressCallback, Trio, open_backend

Open = Callable[[Trio, ProgressCallback], Backend]
IDLE_S = 180.0
"""Seconds without use after which a trio is closed when another one is wanted."""


class TrioLoader:
    """Loads a trio in a thread of its own; knows how far it has come, and then its backend."""

    def __init__(self, trio: Trio, opener: Open = open_backend) -> None:
        """Take the trio; loading begins with `begin`."""
        self.trio = trio
        self.progress = Progress("Starting", 0.0)
        self.error: str | None = None
        self.backend: Backend | None = None
        self.beside: Sequence[TrioLoader] = ()
        """Loaders whose trios need the same memory: idle ones are closed before this one loads."""
        self._opener = opener
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None
        """Set when the loading under way has ended; None while the trio is closed."""
        self._users = 0
        self._used = 0.0

    def begin(self) -> threading.Event:
        """Begin to load the trio, unless that has begun; return the event set at its end."""
        for other in self.beside:
            other.close_if_idle()
        with self._lock:
            self._used = time.monotonic()
            if self._ended is None:
                self.progress, self.error = Progress("Starting", 0.0), None
                self._ended = threading.Event()
                threading.Thread(target=self._open, args=(self._ended,), daemon=True).start()
            return self._ended

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
        """Yield how far loading has come, at least every `tick_s` seconds, until it has ended.

        If an earlier attempt has failed, another one begins.

        Raises:
            ModelError: the trio cannot be loaded.
        """
        with self._lock:
            if self.error:
                self._ended = None
        ended = self.begin()
        while not ended.wait(tick_s):
            yield self.progress
        self.ready()

    def ready(self) -> Backend:
        """Return the backend.

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
        """Yield the backend, which stays open meanwhile.

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
        """Close the trio if nobody has used it for `idle_s` seconds; `begin` loads it again."""
        with self._lock:
            backend = self.backend
            if backend is None or self._users or time.monotonic() - self._used < idle_s:
                return
            self.backend, self._ended = None, None
        backend.close()


def load_trios(trios: Sequence[Trio], opener: Open = open_backend) -> list[TrioLoader]:
    """Return a loader for each trio, which make room for each other; the first begins to load."""
    loaders = [TrioLoader(trio, opener) for trio in trios]
    for loader in loaders:
        loader.beside = [other for other in loaders if other is not loader]
    loaders[0].begin()
    return loaders
