"""The connection of a request to a server, which another thread can end at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

import httpx


class Connection:
    """The socket of one request at a time.

    A thread that waits for a server's next bytes cannot be interrupted, and closing the reply
    waits for it; but once the socket is shut down, its wait ends.
    """

    def __init__(self) -> None:
        """Begin without a socket."""
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._ended = False

    def post(
        self, client: httpx.Client, url: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AbstractContextManager[httpx.Response]:
        """Send a request; return its reply, whose body is not read yet, as a context manager."""
        return client.stream(
            "POST", url, json=body, headers=headers, extensions={"trace": self._trace}
        )

    def _trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Keep the socket that httpcore has opened, the one under TLS last."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = details["return_value"].get_extra_info("socket")
                if self._ended:
                    self._shut_down()

    def end(self) -> None:
        """Break off the request; one that is sent later is broken off when it has connected."""
        with self._lock:
            self._ended = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket:
            with suppress(OSError):  # it is closed
                # Not the method of a TLS socket, which another thread may be reading from.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
