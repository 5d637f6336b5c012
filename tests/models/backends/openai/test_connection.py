"""A request that is given up lets its connection go at once, whatever its server does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from endpoint import JOKE, event_line

from models import ROLES, Endpoint, Request, Sampling, ScoreRequest, Stop, Token, Trio, Variant
from models.backends.openai.backend import OpenAIBackend

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Silent:
    """A server that reads requests, sends each the same bytes, and never ends a reply."""

    def __init__(self, sent: bytes) -> None:
        self.sent = sent
        self.gone: list[float] = []
        """When clients closed their connections."""
        self.requests = threading.Semaphore(0)
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[client], daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            client.recv(1 << 16)
            with suppress(OSError):
                client.sendall(self.sent)
                self.requests.release()
                while client.recv(1 << 16):
                    pass
            self.gone.append(time.monotonic())


def backend_at(server: Silent) -> OpenAIBackend:
    endpoint = Endpoint(server.url, "tiny")
    return OpenAIBackend(
        Trio("far", "", tuple(Variant(role, role, endpoint, "text") for role in ROLES), "none")
    )


@pytest.fixture(params=[b"", BEGUN + event_line(False, "One").encode()], ids=["mute", "begun"])
def silent(request) -> Iterator[Silent]:
    server = Silent(request.param)
    yield server
    server.listening.close()


def all_gone(server: Silent, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while len(server.gone) < len(ROLES) and time.monotonic() < end:
        time.sleep(0.01)
    return len(server.gone) >= len(ROLES)  # what is asked next is broken off, too


def wait_asked(server: Silent) -> None:
    for _ in ROLES:
        assert server.requests.acquire(timeout=5)


def threads_of_streams() -> int:
    return sum(thread.name == "merge_streams" for thread in threading.enumerate())


def test_closing_a_stream_closes_its_sockets_at_once(silent) -> None:
    stream = backend_at(silent).stream(Request(JOKE, Sampling(8)))
    next(stream)
    wait_asked(silent)
    assert silent.gone == []
    stream.close()
    assert all_gone(silent, 1)
    time.sleep(0.3)  # a tick of the merged streams
    assert threads_of_streams() == 0


def test_stopping_one_answer_closes_its_socket_and_leaves_the_others(silent) -> None:
    stream = backend_at(silent).stream(Request(JOKE, Sampling(8)))
    next(stream)
    wait_asked(silent)
    event = stream.send({"task"})
    while not isinstance(event, Stop):
        event = next(stream)
    assert (event.role, event.reason) == ("task", "cancelled")
    time.sleep(0.2)
    assert len(silent.gone) == 1
    stream.close()
    assert all_gone(silent, 1)


def test_a_deadline_closes_sockets_at_once(silent) -> None:
    began = time.monotonic()
    events = list(backend_at(silent).stream(Request(JOKE, Sampling(8), deadline_s=0.5)))
    stops = [event for event in events if isinstance(event, Stop)]
    assert {(stop.role, stop.reason) for stop in stops} == {(role, "deadline") for role in ROLES}
    assert all_gone(silent, 1)
    assert time.monotonic() - began < 3
    if silent.sent:
        assert sum(isinstance(event, Token) for event in events) == len(ROLES)


def test_closing_scores_closes_their_sockets_at_once(silent) -> None:
    scores = backend_at(silent).score(ScoreRequest(JOKE))
    next(scores)
    wait_asked(silent)
    scores.close()
    assert all_gone(silent, 1)
