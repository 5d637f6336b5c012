"""Several people at once: one thread steps the rows of all of them.

The rows of one comparison begin together; those of several share a pass, up to the number that
pays, and the rest wait in the order of asking. Each round takes in one chunk of one prompt, then
gives one token to every row that has its prompt in: nobody's long prompt holds up the others.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from models.engine.interface import SampledToken, SequenceEngine
from models.errors import WeightsError, is_out_of_memory
from models.events import Event, Events, Queued, Stop
from models.serving.compute_thread import submit
from models.serving.generation import Generation
from models.types import Role, StopReason

TICK_S = 0.25
"""A comparison that has nothing to tell says so this often, and hears whether it is stopped."""


class ScheduledRequest:
    """One comparison, from asking to its end."""

    def __init__(self, answers: Sequence[Generation], deadline_s: float | None) -> None:
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
    def unended(self) -> list[Generation]:
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

    def __init__(self, max_rows: int, at_rest: Callable[[], None] = lambda: None) -> None:
        """Take the number of rows that may share a pass, and what is called when none is left."""
        self.max_rows = max_rows
        self._at_rest = at_rest
        self._lock = threading.Lock()
        self._line: list[ScheduledRequest] = []
        self._active: list[ScheduledRequest] = []
        self._at_work = False
        self._closed = False

    def run(self, answers: Sequence[Generation], deadline_s: float | None) -> Events:
        """Yield the events of one comparison as they come; see `Backend.stream`.

        Raises:
            WeightsError: the scheduler is closed.
        """
        asked = ScheduledRequest(answers, deadline_s)
        with self._lock:
            if self._closed:
                raise WeightsError("The trio is closed. Open it again.")
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
        """Cancel all, take nothing more, and come back when the step under way is over."""
        with self._lock:
            self._closed = True
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
            self._active = [asked for asked in self._active if asked.unended]
            self._admit()
            self._at_work = bool(self._active)
        if not self._at_work:
            self._at_rest()
            return
        try:
            self._end_what_is_over()
            self._take_in_a_chunk()
            self._step()
        except Exception as error:  # of a pass that all share: told to all, by `run`
            self._fail(error, self._active)
        try:
            submit(self._round)
        except RuntimeError as error:  # the interpreter is ending
            with self._lock:
                self._fail(error, self._active + self._line)
                self._active, self._line, self._at_work = [], [], False

    def _admit(self) -> None:
        """Let in who came first, as far as the rows go; a comparison of more rows runs alone."""
        rows = sum(len(asked.unended) for asked in self._active)
        waiting: list[ScheduledRequest] = []
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

    def _tell_place(self, asked: ScheduledRequest, place: int) -> None:
        if place != asked.place:
            asked.place = place
            asked.events.put(Queued(place))

    def _end_what_is_over(self) -> None:
        for asked in self._active:
            at_s = time.monotonic() - asked.began
            late = asked.deadline_s is not None and at_s > asked.deadline_s
            for answer in asked.unended:
                if answer.role in asked.stopped or late:
                    self._end(asked, answer, "deadline" if late else "cancelled")

    def _take_in_a_chunk(self) -> None:
        """Feed one chunk of one prompt; the comparisons whose prompts are not in take turns."""
        for asked in self._active:
            waiting = next((answer for answer in asked.unended if not answer.prompt_is_in), None)
            if waiting is None:
                continue
            with self._held_by([(asked, waiting)]):
                if waiting.running is None:
                    waiting.running = waiting.engine.begin(waiting.row, waiting.sampling)
                if picked := waiting.engine.prefill(waiting.running):
                    waiting.prompt_is_in = True
                    if waiting.labels:
                        asked.events.put(waiting.rank())
                    self._take(asked, waiting, picked)
            # One assignment: `close` reads the list from another thread and must miss nobody.
            self._active = [one for one in self._active if one is not asked] + [asked]
            return

    def _step(self) -> None:
        """Give the next tokens to each row of every comparison whose prompts are all in."""
        ready: dict[SequenceEngine[Any], list[tuple[ScheduledRequest, Generation]]] = defaultdict(
            list
        )
        for asked in self._active:
            if all(answer.prompt_is_in for answer in asked.unended):
                for answer in asked.unended:
                    ready[answer.engine].append((asked, answer))
        steps = []
        for engine, rows in ready.items():  # all are begun before the first is waited for
            with self._held_by(rows):
                steps.append((rows, engine.launch([answer.running for _, answer in rows])))
        for rows, wait in steps:
            picked: list[list[SampledToken]] = []
            with self._held_by(rows):
                picked = wait()
            for (asked, answer), ones in zip(rows, picked, strict=False):
                with self._held_by([(asked, answer)]):
                    for one in ones:
                        if answer.reason is None:
                            self._take(asked, answer, one)

    @contextmanager
    def _held_by(self, rows: Sequence[tuple[ScheduledRequest, Generation]]) -> Iterator[None]:
        """Lay an error at the door of whom it concerns, and of nobody else.

        Where memory is short, the longest row ends. Any other error is one row's own, or, where
        several rows share the pass, everybody's.
        """
        try:
            yield
        except Exception as error:
            left = [(asked, answer) for asked, answer in rows if answer.reason is None]
            if left and is_out_of_memory(error):
                asked, answer = max(left, key=lambda one: len(one[1].row.ids) + one[1].said)
                says = "Out of memory: shorten the prompt, or ask for fewer tokens."
                self._end(asked, answer, "error", says)
            elif len(rows) == 1:
                self._fail(error, [rows[0][0]])
            else:
                raise

    def _take(self, asked: ScheduledRequest, answer: Generation, picked: SampledToken) -> None:
        for event in answer.take(picked, time.monotonic() - asked.began):
            asked.events.put(event)
        if answer.reason:
            self._let_go(answer)

    def _end(
        self,
        asked: ScheduledRequest,
        answer: Generation,
        reason: StopReason,
        error: str | None = None,
    ) -> None:
        asked.events.put(answer.end(reason, time.monotonic() - asked.began, error))
        self._let_go(answer, keep=error is None)

    def _fail(self, error: Exception, whom: Sequence[ScheduledRequest]) -> None:
        for asked in whom:
            for answer in asked.unended:
                answer.reason = "error"
                self._let_go(answer, keep=False)
            asked.events.put(error)

    def _let_go(self, answer: Generation, keep: bool = True) -> None:
        running, answer.running = answer.running, None
        if running is not None:
            answer.engine.end(running, keep)
