"""Runs on a tab: at most one at a time, replaced and stopped; what is painted, and how often."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from itertools import pairwise

import gradio as gr
import pytest

from models import ROLES, PromptError, find_trio
from models.backends.fake import FakeBackend
from playground.comparison.trio_loader import TrioLoader
from playground.ui.server.visitors import MAX_ANSWERING, Visitors
from playground.ui.session import Session
from playground.ui.work import paint


@pytest.fixture
def session() -> Session:
    loader = TrioLoader(
        find_trio(), lambda trio, report: FakeBackend(trio, dict.fromkeys(ROLES, ()))
    )
    return Session(loader, Visitors(gr.Blocks()))


def work(name: str):
    def painted(trio, run):
        while run.wanted():
            yield {"status": name}
        yield {"status": f"{name} ended"}

    return painted


def refused():
    raise PromptError("Top-k is empty.")


def test_a_later_run_is_not_painted_over(session) -> None:
    first = session.run("one", lambda: work("first"))
    assert next(first) == {"status": "first"}
    second = session.run("one", lambda: work("second"))
    assert next(second) == {"status": "second"}
    assert list(first) == []
    session.stop("one")
    assert list(second) == [{"status": "second ended"}]
    third = session.run("one", lambda: work("third"))
    assert next(third) == {"status": "third"}
    third.close()
    assert session._runs == {}  # of who has gone nothing stays


def test_fields_that_cannot_be_used_end_the_run_under_way_as_stopped_and_are_said_last(
    session,
) -> None:
    painted: list[dict] = []
    begun = threading.Event()

    def follow() -> None:
        for parts in session.run("one", lambda: work("first")):
            painted.append(parts)
            begun.set()
            time.sleep(0.01)

    visitor = threading.Thread(target=follow)
    visitor.start()
    begun.wait(5)
    for parts in session.run("one", refused):
        painted.append(parts)
    visitor.join(5)
    error = {"status": {"kind": "error", "text": "Top-k is empty."}}
    assert error in painted[:-1]  # at once
    assert painted[-2:] == [{"status": "first ended"}, error]


def test_fields_that_cannot_be_used_are_said_alone_where_nothing_runs(session) -> None:
    error = {"status": {"kind": "error", "text": "Top-k is empty."}}
    assert list(session.run("one", refused)) == [error]


def test_a_fault_of_ours_is_told_on_the_page_and_goes_to_the_log(session) -> None:
    def broken(trio, run):
        yield {"status": "busy"}
        raise ZeroDivisionError

    painted = session.run("one", lambda: broken)
    assert next(painted) == {"status": "busy"}
    assert "unexpectedly" in next(painted)["status"]["text"]
    with pytest.raises(ZeroDivisionError):
        next(painted)


def test_states_are_painted_at_most_so_often_the_first_ones_included() -> None:
    def states():
        for n in range(40):
            time.sleep(0.002)
            yield n

    times = []

    def follow():
        return (yield from paint(states(), lambda n: {"n": n}, every_s=0.02, initial=-1))

    shown = []
    for values in follow():
        times.append(time.monotonic())
        shown.append(values["n"])
    assert shown[0] == -1
    assert shown == sorted(set(shown))
    assert all(b - a >= 0.02 for a, b in pairwise(times))


def test_the_last_state_is_returned_and_the_initial_one_where_there_is_none() -> None:
    def last_of(states, **initial):
        generator = paint(states, lambda n: {"n": n}, **initial)
        while True:
            try:
                next(generator)
            except StopIteration as end:
                return end.value

    assert last_of(n for n in range(3)) == 2
    assert last_of((n for n in ()), initial=7) == 7
    assert last_of(n for n in ()) is None


def test_whoever_waits_in_the_line_is_told_the_place_and_can_stop(session) -> None:
    line = session._visitors.line
    with ExitStack() as stack:
        for _ in range(MAX_ANSWERING):
            stack.enter_context(line.joined())
        runs = [session.run(name, lambda: work("answer")) for name in ("one", "two")]
        told = [next(run)["status"]["text"] for run in runs]
        assert told == [
            f"Many ask at once. Waiting to be let in: place {place} in the line" for place in (1, 2)
        ]
        session.stop("one")
        *_, last = runs[0]
        assert last["status"]["text"] == "Stopped."
        assert "place 1" in next(runs[1])["status"]["text"]
    assert next(runs[1]) == {"status": "answer"}
    runs[1].close()
    assert line.waiting == 0
