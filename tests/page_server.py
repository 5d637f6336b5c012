"""A process that serves the page over scripted trios, and what starts and watches it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]


class PageProcess:
    """A page in a process of its own."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.api = f"{self.url}gradio_api/"
        self.process = process
        self.http = httpx.Client(timeout=60)

    def ask(self, endpoint: str, address: str = "", **arguments: object) -> str:
        """Return the id of an event, none of whose messages are read yet."""
        reply = self.http.post(
            f"{self.api}call/v2/{endpoint}",
            json=arguments,
            headers={"x-forwarded-for": address} if address else {},
        )
        assert reply.status_code == 200, reply.text
        return str(reply.json()["event_id"])

    def messages(self, endpoint: str, id: str) -> list[str]:
        """Return an event's messages, to the last one."""
        reply = self.http.get(f"{self.api}call/{endpoint}/{id}")
        return reply.text.strip().split("\n\n")

    def call(self, endpoint: str, address: str = "", **arguments: object) -> str:
        """Return the last message of an event."""
        return self.messages(endpoint, self.ask(endpoint, address, **arguments))[-1]

    def direct_events(self) -> list[dict[str, object]]:
        """Return bodies of the page's events outside the queue, with the fields' first values."""
        config = self.http.get(f"{self.url}config").json()
        values = {part["id"]: part["props"].get("value") for part in config["components"]}
        return [
            {
                "fn_index": event["id"],
                "data": [values[id] for id in event["inputs"]],
                "session_hash": "somebody",
            }
            for event in config["dependencies"]
            if not event["queue"] and event["backend_fn"]
        ]

    def memory_mb(self) -> float:
        """Return the resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def threads(self) -> int:
        """Return the number of threads of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        """Return the number of open files and sockets of the process."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def page_process(tokens: int = 60, delay_s: float = 0.002) -> Iterator[PageProcess]:
    """Serve a page whose answers have so many tokens, each of which takes so long."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, __file__, str(port), str(tokens), str(delay_s)],
        cwd=ROOT,
        env={**os.environ, "TRIPTYCH_FORWARDED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    page = PageProcess(port, process)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                page.call("compare", "203.0.113.1", text="Are you there?", max_new_tokens=1)
                break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < end
                time.sleep(0.1)
        yield page
    finally:
        page.http.close()
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def _main(port: int, tokens: int, delay_s: float) -> None:
    from models import ROLES, find_trio
    from models.backends.fake import FakeBackend
    from playground.comparison.trio_loader import load_trios
    from playground.ui.server.launch import serve

    script = {role: [f" {role}{n}" for n in range(tokens)] for role in ROLES}
    loaders = load_trios(
        [find_trio()], lambda trio, report: FakeBackend(trio, script, delay_s, max_rows=12)
    )
    serve(loaders, "127.0.0.1", port)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
