"""The line in which requests wait for their turn."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from playground.comparison.waiting_line import WaitingLine


def test_turns_come_in_order_of_arrival() -> None:
    line = WaitingLine(2)
    with ExitStack() as stack:
        leaves = [ExitStack() for _ in range(4)]
        places = [leave.enter_context(line.joined()) for leave in leaves]
        for leave in leaves:
            stack.enter_context(leave)
        assert [next(place, 0) for place in places] == [0, 0, 1, 2]
        assert line.waiting == 2
        leaves[2].close()  # whoever gives up waiting lets the next one pass
        assert next(places[3], 0) == 1
        leaves[0].close()
        assert next(places[3], 0) == 0
        assert line.waiting == 0


def test_a_turn_that_ends_wakes_whoever_is_next_at_once(monkeypatch) -> None:
    monkeypatch.setattr("playground.comparison.waiting_line.TICK_S", 60)
    line = WaitingLine(1)
    came = threading.Event()

    def wait() -> None:
        with line.joined() as places:
            list(places)
            came.set()

    with line.joined():
        thread = threading.Thread(target=wait)
        thread.start()
        while not line.waiting:
            pass
    assert came.wait(5)
    thread.join()
