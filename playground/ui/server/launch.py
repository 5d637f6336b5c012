"""Serves the page until the process is told to stop, and then stops within seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

from playground.comparison.trio_loader import TrioLoader
from playground.ui.page import build
from playground.ui.theme import look

CLOSING_S = 1
"""Seconds in which open connections may end by themselves."""
EXIT_S = 1.5
"""Seconds after which the process ends at once: a thread that loads a trio may take minutes."""


def serve(loaders: Sequence[TrioLoader], host: str, port: int) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Raises:
        OSError: the port is taken, or the host is none of this machine's.
    """
    page = build(loaders)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    page.launch(server_name=host, server_port=port, prevent_thread_lock=True, **look())
    stopped.wait()
    end = threading.Timer(EXIT_S, os._exit, [0])
    end.daemon = True
    end.start()
    page.server.config.timeout_graceful_shutdown = CLOSING_S
    page.close(verbose=False)
