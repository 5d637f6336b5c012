"""One process for each way to answer: it loads, says so, and then answers when it is told to.

Lines of JSON go in and out. Only the standard library is needed here: a way may run under a Python
of its own.
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

Way = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


class Child:
    """A process that runs one module's ways; stands in the parent."""

    def __init__(self, module: str, python: str, setup: Mapping[str, Any]) -> None:
        """Start it; it loads while others do, too."""
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
        """Wait until it has loaded; returns what it tells of itself.

        Raises:
            RuntimeError: it cannot be used, and why.
        """
        return self._receive()

    def run(self, way: str, **how: Any) -> dict[str, Any]:
        """Have it answer once, and return what it measured."""
        self._send({"way": way, **how})
        return self._receive()

    def close(self) -> None:
        """End it."""
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
            pass  # it has ended; `_receive` says so

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = [line.strip() for line in self._log if line.strip()]
            raise RuntimeError(f"its process ended with code {code}: {(said or ['no word'])[-1]}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise RuntimeError(message["error"])
        return message


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], Mapping[str, Way]]]) -> None:
    """Run in the child: load by the setup that comes in, then answer until the input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it started ends, too
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        told, ways = prepare(json.loads(sys.stdin.readline()))
    except Exception as error:
        told, ways = {"error": (str(error) or repr(error)).strip().splitlines()[0]}, {}
    with suppress(AttributeError, OSError, TypeError):  # what loading used goes back, for all alike
        ctypes.CDLL(None).malloc_trim(0)
    print(json.dumps(told), file=out, flush=True)
    for line in sys.stdin if ways else ():
        how = json.loads(line)
        try:
            measured = {**ways[how.pop("way")](**how), "memory_bytes": resident_bytes()}
        except Exception as error:
            measured = {"error": repr(error)}
        print(json.dumps(measured), file=out, flush=True)


def resident_bytes(pid: int | None = None) -> int:
    """Return what a process holds in memory now; 0 where the system does not say."""
    status = Path(f"/proc/{pid or 'self'}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = next((line for line in lines if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return 1024 * int(held.split()[1])
