"""Child processes that run the ways to answer: each loads once, and then serves requests.

Requests and results are lines of JSON. This module needs only the standard library, as a child may
run under its own Python interpreter.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.capabilities import proc_file

Way = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


class Child:
    """The parent's handle on a process that runs the ways of one module."""

    def __init__(self, module: str, python: str, setup: Mapping[str, Any]) -> None:
        """Start the process and return at once, so that several can load at the same time."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [python, "-m", f"models.bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._send(setup)

    def ready(self) -> dict[str, Any]:
        """Wait until the process has loaded, and return the facts that it reports.

        Raises:
            RuntimeError: it could not load; the message says why.
        """
        return self._receive()

    def run(self, way: str, **arguments: Any) -> dict[str, Any]:
        """Run a way once, and return what it measured."""
        self._send({"way": way, **arguments})
        return self._receive()

    def close(self) -> None:
        """End the process; kill it if it does not end by itself."""
        with self._log, self._process as process:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            for end in (process.terminate, process.kill):
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    end()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended; `_receive` reports why

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            lines = [line.strip() for line in self._log if line.strip()] or ["no word"]
            raise RuntimeError(f"its process ended with code {code}: {lines[-1]}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise RuntimeError(message["error"])
        return message


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], Mapping[str, Way]]]) -> None:
    """Read the setup from stdin and load, then run requests from stdin until it ends.

    Called in the child process.
    """
    # Exiting runs the atexit handlers, which end this process's own children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what libraries print out of the results
    try:
        facts, ways = prepare(json.loads(sys.stdin.readline()))
    except Exception as error:
        facts, ways = {"error": (str(error) or repr(error)).strip().splitlines()[0]}, {}
    # Memory is compared without what was only used while loading.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin if ways else ():
        request = json.loads(line)
        try:
            measured = {**ways[request.pop("way")](**request), "memory_bytes": resident_bytes()}
        except Exception as error:
            measured = {"error": repr(error)}
        print(json.dumps(measured), file=out, flush=True)


def resident_bytes(pid: int | None = None) -> int:
    """Return the resident memory of a process, by default this one; 0 if it is unknown."""
    lines = proc_file(f"{pid or 'self'}/status").splitlines()
    resident = next((line for line in lines if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return 1024 * int(resident.split()[1])
