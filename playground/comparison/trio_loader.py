"""Loads trios in the background when they are first used, so that the page appears immediately."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from models import Backend, ModelError, Progress, ProgressCallback, Trio, open_backend

Open = Callable[[Trio, ProgressCallback], Backend]
IDLE_S = 180.0
"""Seconds without use after which a trio may be closed to make room for another one."""


class TrioLoader:
    """Loads a trio in a thread of its own, and holds the progress and then the backend."""

    def __init__(self, trio: Trio, opener: Open = open_backend) -> None:
        """Prepare to load a trio with `opener`; `begin` starts loading."""
        self.trio = trio
        self.progress = Progress("Starting", 0.0)
        self.error: str | None = None
        self.backend: Backend | None = None
        self.beside: Sequence[TrioLoader] = ()
        """Loaders that share memory with this one; idle ones are closed before this one loads."""
        self._opener = opener
        self._lock = threading.Lock()
        self._ended: threading.Event | None = None
        """Set when loading has ended; None while the trio is closed."""
        self._users = 0
        self._used = 0.0

    def begin(self) -> threading.Event:
        """Start loading if the trio is closed; return the event that is set when loading ends."""
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
        """Yield the progress of loading every `tick_s` seconds, until it has ended.

        If an earlier attempt failed, a new one is started.

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
            ModelError: the trio is still loading, or cannot be loaded.
        """
        if self.error:
            raise ModelError(self.error)
        if self.backend is None:
            raise ModelError("The trio is still loading. Try again in a moment.")
        return self.backend

    @contextmanager
    def used(self) -> Iterator[Backend]:
        """Yield the backend, and keep it open until the end of the `with` block.

        Raises:
            ModelError: the trio is still loading, or cannot be loaded.
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
    """Return a loader for each trio, sharing memory, and start loading the first one."""
    loaders = [TrioLoader(trio, opener) for trio in trios]
    for loader in loaders:
        loader.beside = [other for other in loaders if other is not loader]
    loaders[0].begin()
    return loaders
