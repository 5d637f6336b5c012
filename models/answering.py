"""Rows while they run: ids become text, and the rules that end an answer apply.

End-of-text token, stop text, length, deadline, and the word of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import torch

from models.detokenize import Detokenizer, StopText
from models.engine import Picked, Steps
from models.types import Event, Events, Role, Stop, StopReason, Token


@dataclass(slots=True)
class Answering:
    """One row while it runs."""

    role: Role
    detokenizer: Detokenizer
    stops: StopText
    left: int
    """Tokens that it may still give."""
    eos_ids: frozenset[int]
    reason: StopReason | None = None

    def take(self, picked: Picked, at_s: float) -> Iterator[Event]:
        """Turn one token into events; sets `reason` when it was the last."""
        self.left -= 1
        text = ""
        if picked.id in self.eos_ids:
            self.reason = "eos"
        else:
            text, hit = self.stops.add(self.detokenizer.add(picked.id))
            self.reason = "stop" if hit else "length" if self.left == 0 else None
        yield Token(self.role, picked.id, text, picked.logprob, at_s)
        if self.reason:
            yield self.end(self.reason, at_s)

    def end(self, reason: StopReason, at_s: float) -> Stop:
        """End the answer; what was held back belongs to it, unless a stop text cut it."""
        self.reason = reason
        rest = ""
        if reason != "stop":
            rest, _ = self.stops.add(self.detokenizer.rest())
            rest += self.stops.rest()
        return Stop(self.role, reason, at_s, rest)


@dataclass(slots=True)
class Batch:
    """The rows of one group while they run."""

    steps: Steps
    answers: list[Answering]
    ended: set[int] = field(default_factory=set)
    """Rows to be told to the engine with the next step."""
    begun: bool = False

    @property
    def running(self) -> bool:
        """Whether any row is still to go on."""
        return any(answer.reason is None for answer in self.answers)

    def step(self, at_s: Callable[[], float]) -> Iterator[Event]:
        """Run one step of the rows that go on, and turn it into events."""
        try:
            picked = self.steps.send(self.ended if self.begun else None)
        except torch.OutOfMemoryError as error:
            for row, answer in enumerate(self.answers):
                if answer.reason is None:
                    yield self.end(row, "error", at_s(), f"Out of memory: {error}".splitlines()[0])
            return
        if self.begun:
            self.ended = set()
        self.begun = True
        for row, one in picked.items():
            if self.answers[row].reason is None:
                yield from self.answers[row].take(one, at_s())
            if self.answers[row].reason:
                self.ended.add(row)

    def end(self, row: int, reason: StopReason, at_s: float, error: str | None = None) -> Stop:
        """End a row from outside."""
        self.ended.add(row)
        return replace(self.answers[row].end(reason, at_s), error=error)


def run(
    batches: list[Batch],
    clock: Callable[[], float],
    deadline_s: float | None,
    stopped: set[Role],
) -> Events:
    """Step the batches in turn until every row has ended; `stopped` grows by what is sent in."""
    start = clock()
    with ExitStack() as held:
        for batch in batches:
            held.enter_context(closing(batch.steps))
        while any(batch.running for batch in batches):
            for batch in batches:
                late = deadline_s is not None and clock() - start > deadline_s
                for row, answer in enumerate(batch.answers):
                    if answer.reason is None and (late or answer.role in stopped):
                        reason: StopReason = "deadline" if late else "cancelled"
                        stopped |= set((yield batch.end(row, reason, clock() - start)) or ())
                if not batch.running:
                    continue
                for event in batch.step(lambda: clock() - start):
                    stopped |= set((yield event) or ())
