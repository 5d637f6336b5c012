"""One process for each way to answer: it loads, says so, and then answers when it is told to.

Lines of JSON go in and out. Only the standard library is needed here: a way may run under a Python
of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Way = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


class Child:
    """A process that runs one module's ways; stands in the parent."""

    def __init__(self, module: str, python: str, setup: Mapping[str, Any]) -> None:
        """Start it; it loads while others do, too."""
        self._log: list[str] = []
        self._process = subprocess.Popen(
            [python, "-m", f"models.bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
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
        with self._process as process:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

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
            raise RuntimeError(f"its process ended with code {self._process.wait()}")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise RuntimeError(message["error"])
        return message


def serve(prepare: Callable[[dict[str, Any]], tuple[dict[str, Any], Mapping[str, Way]]]) -> None:
    """Run in the child: load by the setup that comes in, then answer until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        told, ways = prepare(json.loads(sys.stdin.readline()))
    except Exception as error:
        told, ways = {"error": (str(error) or repr(error)).strip().splitlines()[0]}, {}
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
