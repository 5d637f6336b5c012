"""Answers from weights loaded here: variants grouped by base, one batch per group.

Groups take their steps in turn. Here ids become text, and the rules that end an answer apply:
end-of-text token, stop text, length, deadline, and the word of the caller.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch

from models.backend import Events
from models.detokenize import Detokenizer, StopText
from models.encode import Encoder
from models.engine import Picked, Row, Steps
from models.errors import PromptError, WeightsError
from models.load import Group, load_encoders, load_group
from models.prepare import Report
from models.turns import Turns
from models.types import (
    Event,
    Format,
    Loaded,
    Memory,
    Pin,
    Prompt,
    Role,
    Sampling,
    Sent,
    Stop,
    StopReason,
    Token,
    Trio,
    Variant,
)


def by_base(trio: Trio) -> list[list[Variant]]:
    """Group the variants by their base."""
    groups: dict[Pin, list[Variant]] = defaultdict(list)
    for variant in trio.variants:
        groups[variant.source.base].append(variant)
    return list(groups.values())


def encoders_of(trio: Trio, report: Report) -> dict[Role, Encoder]:
    """Load tokenizers and templates alone: enough to see what each would be sent."""
    return {
        encoder.variant.role: encoder
        for variants in by_base(trio)
        for encoder in load_encoders(variants, report)
    }


def sent_to_all(
    encoders: dict[Role, Encoder], trio: Trio, prompt: Prompt, format: Format, stop_texts: bool
) -> dict[Role, Sent]:
    """Render for every variant, and refuse what does not fit into the context.

    Raises:
        PromptError: the prompt is no text, or leaves no room for an answer.
    """
    sent = {v.role: encoders[v.role].sent(prompt, format, stop_texts) for v in trio.variants}
    for role, one in sent.items():
        if len(one.ids) >= trio.max_context:
            raise PromptError(
                f"The prompt is {len(one.ids)} tokens for {role}, and the context of "
                f"{trio.name} is {trio.max_context}. Shorten it."
            )
    return sent


@dataclass(slots=True)
class _Answer:
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
class _Batch:
    """The rows of one group while they run."""

    steps: Steps
    answers: list[_Answer]
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


class LocalBackend:
    """Weights loaded here, on CUDA where there is one, else on the CPU."""

    def __init__(self, trio: Trio, report: Report) -> None:
        """Load every group of the trio.

        Raises:
            WeightsError: something cannot be had or does not fit.
        """
        self.trio = trio
        self.groups = [load_group(vs, trio.precision, report) for vs in by_base(trio)]
        self._turns = Turns()
        self._encoders = {e.variant.role: e for group in self.groups for e in group.encoders}

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, Sent]:
        """Return what each variant's model is sent, without running any."""
        if not self.groups:
            raise WeightsError(f"The trio {self.trio.name} is closed. Open it again.")
        return sent_to_all(self._encoders, self.trio, prompt, format, stop_texts)

    def loaded(self) -> dict[Role, Loaded]:
        """Return which weights answer for each variant."""
        return {
            variant.role: loaded
            for group in self.groups
            for variant, loaded in zip(group.variants, group.loaded, strict=True)
        }

    def memory(self) -> Memory:
        """Return what the trio holds, in bytes."""
        each = [group.memory for group in self.groups]
        return Memory(
            sum(m.base_bytes for m in each),
            sum(m.adapter_bytes for m in each),
            max(m.kv_bytes_per_token for m in each),
        )

    def close(self) -> None:
        """Drop the weights; what is asked later is refused."""
        self.groups.clear()

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        format: Format = "own",
        stop_texts: bool = True,
        deadline_s: float | None = None,
    ) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each; see `Backend`."""
        sent = self.sent(prompt, format, stop_texts)
        ticket = object()
        try:
            stopped = yield from self._turns.wait(ticket, sent)
            batches = [self._batch(group, sent, sampling) for group in self.groups]
            with closing(_Closing(batches)):
                yield from _run(batches, time.monotonic, deadline_s, stopped)
        finally:
            self._turns.leave(ticket)

    def _batch(self, group: Group, sent: dict[Role, Sent], sampling: Sampling) -> _Batch:
        prompts = [sent[variant.role] for variant in group.variants]
        rows = [Row(p.ids, entry) for p, entry in zip(prompts, group.rows, strict=True)]
        answers = [
            _Answer(
                variant.role,
                Detokenizer(group.encoders[0].tokenizer),
                StopText(p.stop_texts),
                min(sampling.max_new_tokens, self.trio.max_context - len(p.ids)),
                group.eos_ids,
            )
            for variant, p in zip(group.variants, prompts, strict=True)
        ]
        return _Batch(group.engine.steps(rows, sampling), answers)


class _Closing:
    """Closes the steps of all batches."""

    def __init__(self, batches: list[_Batch]) -> None:
        self._batches = batches

    def close(self) -> None:
        for batch in self._batches:
            batch.steps.close()


def _run(
    batches: list[_Batch],
    clock: Callable[[], float],
    deadline_s: float | None,
    stopped: set[Role],
) -> Events:
    """Step the batches in turn until every row has ended; `stopped` grows by what is sent in."""
    start = clock()
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
