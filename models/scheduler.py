"""Several people at once: one thread steps the rows of all of them.

The rows of one comparison begin together; those of several share a pass, up to the number that
pays, and the rest wait in the order of asking. Each round takes in one chunk of one prompt, then
gives one token to every row that has its prompt in: nobody's long prompt holds up the others.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from models.answering import Answering
from models.engine.rows import Picked, RowEngine
from models.types import Event, Events, Queued, Role, Stop, StopReason
from models.worker import submit

TICK_S = 0.25
"""A comparison that has nothing to tell says so this often, and hears whether it is stopped."""


class Asked:
    """One comparison, from asking to its end."""

    def __init__(self, answers: Sequence[Answering], deadline_s: float | None) -> None:
        """Take its rows, and how long they may run."""
        self.answers = answers
        self.deadline_s = deadline_s
        self.events: SimpleQueue[Event | Exception] = SimpleQueue()
        self.stopped: set[Role] = set()
        """Roles whose answers nobody wants any more; grows only."""
        self.place = 0
        """In the line, as last told: 1 is next, 0 is not in it."""
        self.began = 0.0

    @property
    def left(self) -> list[Answering]:
        """The answers that have not ended."""
        return [answer for answer in self.answers if answer.reason is None]

    @property
    def unwanted(self) -> bool:
        """Whether every answer is stopped."""
        return all(answer.role in self.stopped for answer in self.answers)

    def stop_all(self) -> None:
        """Want none of the answers any more."""
        self.stopped |= {answer.role for answer in self.answers}


class Scheduler:
    """Runs what is asked, round by round; between two rounds the thread is free for others."""

    def __init__(self, max_rows: int) -> None:
        """Take the number of rows that may share a pass."""
        self.max_rows = max_rows
        self._lock = threading.Lock()
        self._line: list[Asked] = []
        self._active: list[Asked] = []
        self._at_work = False

    def run(self, answers: Sequence[Answering], deadline_s: float | None) -> Events:
        """Yield the events of one comparison as they come; see `Backend.stream`."""
        asked = Asked(answers, deadline_s)
        with self._lock:
            self._line.append(asked)
            if not self._at_work:
                self._at_work = True
                submit(self._round)
        stops = 0
        try:
            while stops < len(answers):
                try:
                    event = asked.events.get(timeout=TICK_S)
                except Empty:
                    event = Queued(asked.place)
                if isinstance(event, Exception):
                    raise event
                stops += isinstance(event, Stop)
                asked.stopped |= set((yield event) or ())
        finally:
            asked.stop_all()

    def close(self) -> None:
        """Cancel all, and come back when the step under way is over."""
        with self._lock:
            for asked in self._line + self._active:
                asked.stop_all()
        while self.open:
            submit(bool).result()

    @property
    def open(self) -> int:
        """How many comparisons wait or run."""
        with self._lock:
            return len(self._line) + len(self._active)

    def _round(self) -> None:
        with self._lock:
            self._active = [asked for asked in self._active if asked.left]
            self._admit()
            self._at_work = bool(self._active)
        if not self._at_work:
            return
        try:
            self._end_what_is_over()
            self._take_in_a_chunk()
            self._step()
        except Exception as error:  # told to everyone whom it may concern, by `run`
            self._fail(error)
        submit(self._round)

    def _admit(self) -> None:
        """Let in who came first, as far as the rows go; a comparison of more rows runs alone."""
        rows = sum(len(asked.left) for asked in self._active)
        waiting: list[Asked] = []
        for asked in self._line:
            fits = not waiting and (not rows or rows + len(asked.answers) <= self.max_rows)
            if fits or asked.unwanted:
                rows += len(asked.answers) if fits else 0
                asked.began = time.monotonic()
                self._active.append(asked)
                self._tell_place(asked, 0)
            else:
                waiting.append(asked)
                self._tell_place(asked, len(waiting))
        self._line = waiting

    def _tell_place(self, asked: Asked, place: int) -> None:
        if place != asked.place:
            asked.place = place
            asked.events.put(Queued(place))

    def _end_what_is_over(self) -> None:
        for asked in self._active:
            late = asked.deadline_s is not None and self._at_s(asked) > asked.deadline_s
            for answer in asked.left:
                if answer.role in asked.stopped or late:
                    self._end(asked, answer, "deadline" if late else "cancelled")

    def _take_in_a_chunk(self) -> None:
        for asked in self._active:
            for answer in asked.left:
                if answer.prompt_is_in:
                    continue
                with self._memory_for([(asked, answer)]):
                    if answer.running is None:
                        answer.running = answer.engine.begin(answer.row, answer.sampling)
                    if picked := answer.engine.prefill(answer.running):
                        answer.prompt_is_in = True
                        self._take(asked, answer, picked)
                return

    def _step(self) -> None:
        """Give the next tokens to each row of every comparison whose prompts are all in."""
        ready: dict[RowEngine[Any], list[tuple[Asked, Answering]]] = defaultdict(list)
        for asked in self._active:
            if all(answer.prompt_is_in for answer in asked.left):
                for answer in asked.left:
                    ready[answer.engine].append((asked, answer))
        steps = []
        for engine, rows in ready.items():  # all are begun before the first is waited for
            with self._memory_for(rows):
                steps.append((rows, engine.launch([answer.running for _, answer in rows])))
        for rows, wait in steps:
            with self._memory_for(rows):
                for (asked, answer), picked in zip(rows, wait(), strict=True):
                    for one in picked:
                        if answer.reason is None:
                            self._take(asked, answer, one)

    @contextmanager
    def _memory_for(self, rows: Sequence[tuple[Asked, Answering]]) -> Iterator[None]:
        """End the longest row where there is no memory for all; any other error is passed on."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            asked, answer = max(rows, key=lambda row: len(row[1].row.ids))
            says = "Out of memory: shorten the prompt, or ask for fewer tokens."
            self._end(asked, answer, "error", says)

    def _take(self, asked: Asked, answer: Answering, picked: Picked) -> None:
        events = list(answer.take(picked, self._at_s(asked)))
        if answer.reason:
            answer.engine.end(answer.running)
        for event in events:
            asked.events.put(event)

    def _end(
        self, asked: Asked, answer: Answering, reason: StopReason, error: str | None = None
    ) -> None:
        stop = answer.end(reason, self._at_s(asked), error)
        if answer.running:
            answer.engine.end(answer.running, keep=error is None)
        asked.events.put(stop)

    def _fail(self, error: Exception) -> None:
        for asked in self._active:
            for answer in asked.left:
                answer.reason = "error"
                if answer.running:
                    answer.engine.end(answer.running, keep=False)
            asked.events.put(error)

    def _at_s(self, asked: Asked) -> float:
        return time.monotonic() - asked.began


def _is_out_of_memory(error: Exception) -> bool:
    """Whether a library could not get memory; torch has no one type for it on all devices."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
