"""The scheduler (continuous batching): one thread steps the sequences of all requests.

The sequences of one request start together; those of several share a pass, up to a limit of rows,
and further requests wait in order of arrival. Each round prefills one chunk of one prompt, then
runs a decode step for every request whose prompts are all prefilled, so that a long prompt does not
hold up the other requests.
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
"""Seconds without an event after which a request yields its place, and can be cancelled."""


class ScheduledRequest:
    """One request, from its arrival to its end."""

    def __init__(self, generations: Sequence[Generation], deadline_s: float | None) -> None:
        """Hold generations that start together, and their time limit."""
        self.generations = generations
        self.deadline_s = deadline_s
        self.events: SimpleQueue[Event | Exception] = SimpleQueue()
        self.cancelled: set[Role] = set()
        """Roles whose answers are cancelled; only grows."""
        self.place = 0
        """Place in the queue as last yielded: 1 is next, 0 is not in it."""
        self.began = 0.0

    @property
    def running(self) -> list[Generation]:
        """The generations that have not ended."""
        return [generation for generation in self.generations if generation.reason is None]

    @property
    def is_cancelled(self) -> bool:
        """Whether all answers are cancelled."""
        return all(generation.role in self.cancelled for generation in self.generations)

    def cancel_all(self) -> None:
        """Cancel all answers."""
        self.cancelled |= {generation.role for generation in self.generations}


Row = tuple[ScheduledRequest, Generation]
"""A request, and one of its generations."""


class Scheduler:
    """Runs requests round by round; between rounds the compute thread is free for other work."""

    def __init__(self, max_rows: int, on_idle: Callable[[], None] = lambda: None) -> None:
        """Create a scheduler.

        Args:
            max_rows: rows that may share a pass.
            on_idle: called when no request is left to run.
        """
        self.max_rows = max_rows
        self._on_idle = on_idle
        self._lock = threading.Lock()
        self._queue: list[ScheduledRequest] = []
        self._active: list[ScheduledRequest] = []
        self._working = False
        """Whether a round is running or submitted."""
        self._closed = False

    def run(self, generations: Sequence[Generation], deadline_s: float | None) -> Events:
        """Yield the events of one request as they come; see `Backend.stream`.

        Raises:
            WeightsError: the scheduler is closed.
        """
        request = ScheduledRequest(generations, deadline_s)
        with self._lock:
            if self._closed:
                raise WeightsError("The trio is closed. Open it again.")
            self._queue.append(request)
            if not self._working:
                self._working = True
                submit(self._round)
        stops = 0
        try:
            while stops < len(generations):
                try:
                    event = request.events.get(timeout=TICK_S)
                except Empty:
                    event = Queued(request.place)
                if isinstance(event, Exception):
                    raise event
                stops += isinstance(event, Stop)
                request.cancelled |= set((yield event) or ())
        finally:
            request.cancel_all()

    def close(self) -> None:
        """Cancel all requests, refuse new ones, and return when the current step is over."""
        with self._lock:
            self._closed = True
            for request in self._queue + self._active:
                request.cancel_all()
        while self.open_requests:
            submit(bool).result()

    @property
    def open_requests(self) -> int:
        """Number of requests that wait or run."""
        with self._lock:
            return len(self._queue) + len(self._active)

    def _round(self) -> None:
        with self._lock:
            self._active = [request for request in self._active if request.running]
            self._admit()
            self._working = bool(self._active)
        if not self._working:
            self._on_idle()
            return
        try:
            self._end_cancelled()
            self._prefill_chunk()
            self._step()
        except Exception as error:  # in a pass that all requests share: `run` raises it in each
            self._fail(error, self._active)
        try:
            submit(self._round)
        except RuntimeError as error:  # the interpreter is ending
            with self._lock:
                self._fail(error, self._active + self._queue)
                self._active, self._queue, self._working = [], [], False

    def _admit(self) -> None:
        """Admit requests in order while rows are free; one of more than `max_rows` runs alone."""
        rows = sum(len(request.running) for request in self._active)
        waiting: list[ScheduledRequest] = []
        for request in self._queue:
            fits = not rows or rows + len(request.generations) <= self.max_rows
            admitted = fits and not waiting
            if admitted or request.is_cancelled:
                rows += len(request.generations) if admitted else 0
                request.began = time.monotonic()
                self._active.append(request)
                self._set_place(request, 0)
            else:
                waiting.append(request)
                self._set_place(request, len(waiting))
        self._queue = waiting

    def _set_place(self, request: ScheduledRequest, place: int) -> None:
        if place != request.place:
            request.place = place
            request.events.put(Queued(place))

    def _end_cancelled(self) -> None:
        """End the generations that are cancelled or past their deadline."""
        for request in self._active:
            at_s = time.monotonic() - request.began
            late = request.deadline_s is not None and at_s > request.deadline_s
            for generation in request.running:
                if generation.role in request.cancelled or late:
                    self._end((request, generation), "deadline" if late else "cancelled")

    def _prefill_chunk(self) -> None:
        """Prefill one chunk of one prompt; requests that are not prefilled take turns."""
        for request in self._active:
            waiting = next((g for g in request.running if not g.prefilled), None)
            if waiting is None:
                continue
            row = (request, waiting)
            with self._ending_failed_rows([row]):
                if waiting.sequence is None:
                    waiting.sequence = waiting.engine.add(waiting.spec, waiting.sampling)
                if token := waiting.engine.prefill(waiting.sequence):
                    waiting.prefilled = True
                    if waiting.labels:
                        request.events.put(waiting.rank_labels())
                    self._accept(row, token)
            # One assignment: `close` reads the list from another thread, and must miss no request.
            self._active = [other for other in self._active if other is not request] + [request]
            return

    def _step(self) -> None:
        """Run a decode step for every request whose prompts are all prefilled."""
        ready: dict[SequenceEngine[Any], list[Row]] = defaultdict(list)
        for request in self._active:
            if all(generation.prefilled for generation in request.running):
                for generation in request.running:
                    ready[generation.engine].append((request, generation))
        steps = []
        for engine, rows in ready.items():  # all are started before the first is waited for
            with self._ending_failed_rows(rows):
                sequences = [generation.sequence for _, generation in rows]
                steps.append((rows, engine.start_step(sequences)))
        for rows, wait in steps:
            tokens: list[list[SampledToken]] = []
            with self._ending_failed_rows(rows):
                tokens = wait()
            for row, new in zip(rows, tokens, strict=False):
                with self._ending_failed_rows([row]):
                    for token in new:
                        if row[1].reason is None:
                            self._accept(row, token)

    @contextmanager
    def _ending_failed_rows(self, rows: Sequence[Row]) -> Iterator[None]:
        """On an error, end only what it concerns.

        If memory runs out, only the longest sequence ends. Any other error ends the request of the
        row, or is raised if several rows share the pass, and then ends all requests.
        """
        try:
            yield
        except Exception as error:
            running = [row for row in rows if row[1].reason is None]
            if running and is_out_of_memory(error):
                longest = max(running, key=lambda row: len(row[1].spec.ids) + len(row[1].ids))
                message = "Out of memory: shorten the prompt, or ask for fewer tokens."
                self._end(longest, "error", message)
            elif len(rows) == 1:
                self._fail(error, [rows[0][0]])
            else:
                raise

    def _accept(self, row: Row, token: SampledToken) -> None:
        request, generation = row
        for event in generation.accept(token, time.monotonic() - request.began):
            request.events.put(event)
        if generation.reason:
            self._remove(generation)

    def _end(self, row: Row, reason: StopReason, error: str | None = None) -> None:
        request, generation = row
        request.events.put(generation.end(reason, time.monotonic() - request.began, error))
        self._remove(generation, keep=error is None)

    def _fail(self, error: Exception, requests: Sequence[ScheduledRequest]) -> None:
        """End requests with an error, which `run` raises to the caller."""
        for request in requests:
            for generation in request.running:
                generation.reason = "error"
                self._remove(generation, keep=False)
            request.events.put(error)

    def _remove(self, generation: Generation, keep: bool = True) -> None:
        """Remove a generation's sequence from its engine."""
        sequence, generation.sequence = generation.sequence, None
        if sequence is not None:
            generation.engine.remove(sequence, keep)
