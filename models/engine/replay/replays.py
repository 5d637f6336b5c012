"""Replays passes of one token a row on a CPU: which of them, and the proof that they are the same.

A pass of a few rows through a small model takes most of its time between the kernels, in Python and
in torch's handling of each call. The first passes of a shape are computed as always, then one is
recorded, and the next one is computed both ways: only a replay that is equal to the bit is used.
The proof is one pass, with one number of threads; on two cores one thread and two compute the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from models.engine.attention.attention import AttentionPass
from models.engine.layers.multi_lora import RowScales
from models.engine.replay.program import Program
from models.engine.replay.recording import NotReplayable, Recorder, TooLarge, recording

RECORDED_AT = 16
"""Number of a shape's pass that is recorded. Recording takes as long as some 16 replays save; some
numbers of rows come seldom."""
MAX_ROWS = 24
"""Most rows of a pass that is recorded; the memory of its results is kept."""

Forward = Callable[[Tensor, Tensor, RowScales, Any], Tensor]
"""The ordinary pass: ids, positions, row scales and attention → hidden states."""
_Shape = tuple[int, bool]
"""A pass's number of rows, and whether all are the base's."""
_LOG = logging.getLogger(__name__)


class Replays:
    """Computes the hidden states of a model's passes, by replay where that is possible."""

    def __init__(self, reason: str = "") -> None:
        """Begin without recordings; with a reason, nothing is replayed."""
        self.reason = reason
        """Why no pass is replayed, or none of some shape; empty if all may be."""
        self.stopped = bool(reason)
        """Whether no pass is replayed."""
        self.last_way: Literal["ordinary", "recorded", "replayed"] = "ordinary"
        """How the last pass was computed; one that was recorded or compared takes longer."""
        self.seconds: dict[str, float] | None = None
        """To which the durations of replayed calls are added, by operation."""
        self.calls = 0
        """Number of calls of the last replay."""
        self._attention = _CurrentAttention()
        self._passes = Counter[_Shape]()
        self._programs: dict[_Shape, Program] = {}
        self._proven: set[_Shape] = set()

    @property
    def count(self) -> int:
        """Number of shapes that are replayed."""
        return len(self._proven)

    def __call__(
        self,
        forward: Forward,
        ids: Tensor,
        positions: Tensor,
        rows: RowScales,
        attention: AttentionPass,
    ) -> Tensor:
        """Return the hidden states of a pass: (B, T, d).

        Args:
            forward: the ordinary pass, always the same.
            ids: (B, T).
            positions: (B, T).
            rows: the scales of the rows.
            attention: the attention of this pass.
        """
        self.last_way = "ordinary"
        if self.stopped or ids.shape[1] > 1 or len(ids) > MAX_ROWS:
            return forward(ids, positions, rows, attention)
        shape, inputs = (len(ids), rows.all_base), (ids, positions, rows.scales)
        self._passes[shape] += 1
        if shape in self._proven:
            program, self.last_way = self._programs[shape], "replayed"
            self.calls = len(program)
            with self._attention.set(attention):
                return program(*inputs, seconds=self.seconds)
        if self._passes[shape] == RECORDED_AT:
            return self._record(shape, forward, ids, positions, rows, attention)
        replayed = self._try(shape, inputs, attention)
        # Last, so that the keys and values that it caches are those that stay.
        states = forward(ids, positions, rows, attention)
        if replayed is not None:
            if torch.equal(_bytes(replayed), _bytes(states)):
                self._proven.add(shape)
            else:
                self._stop(f"a replay of {len(ids)} rows differed", logging.WARNING)
        return states

    def _record(
        self,
        shape: _Shape,
        forward: Forward,
        ids: Tensor,
        positions: Tensor,
        rows: RowScales,
        attention: AttentionPass,
    ) -> Tensor:
        """Compute a pass and record it, if it can be replayed."""
        self.last_way = "recorded"
        try:
            with recording() as recorder, self._attention.set(attention):
                recorded = _RecordedAttention(recorder, self._attention.attend)
                states = forward(ids, positions, rows, recorded)
        except Exception as error:  # in the middle of the pass
            self._refuse(error)
            return forward(ids, positions, rows, attention)
        try:
            self._programs[shape] = Program(recorder.calls, (ids, positions, rows.scales), states)
        except Exception as error:  # the states are right, whatever cannot be done with the record
            self._refuse(error)
        return states

    def _try(
        self, shape: _Shape, inputs: tuple[Tensor, ...], attention: AttentionPass
    ) -> Tensor | None:
        """Return what a shape's replay gives that is not proven yet; None if there is none."""
        if (program := self._programs.get(shape)) is None:
            return None
        self.last_way = "recorded"
        try:
            with self._attention.set(attention):
                return program(*inputs)
        except Exception as error:  # the ordinary pass comes next
            del self._programs[shape]
            self._refuse(error)
            return None

    def _refuse(self, error: Exception) -> None:
        """Give a shape up for an error; give all up if passes of no shape can be replayed."""
        if isinstance(error, NotReplayable) and not isinstance(error, TooLarge):
            self._stop(str(error))
            return
        self.reason = f"{type(error).__name__}: {error}"
        _LOG.warning("Passes of one shape are not replayed: %s.", self.reason)

    def _stop(self, reason: str, level: int = logging.INFO) -> None:
        _LOG.log(level, "Passes are not replayed: %s.", reason)
        self.reason, self.stopped = reason, True
        self._programs.clear()
        self._proven.clear()


def _bytes(states: Tensor) -> Tensor:
    """Return a tensor's bytes: unlike numbers, 0 and −0 differ, and what is no number is equal."""
    return states.contiguous().view(torch.uint8)


class _CurrentAttention:
    """The attention of the pass that is computed: what programs call."""

    def __init__(self) -> None:
        self._attention: AttentionPass | None = None

    @contextmanager
    def set(self, attention: AttentionPass) -> Iterator[None]:
        """Let a pass's attention be called for a while; it would keep the pass's caches alive."""
        self._attention = attention
        try:
            yield
        finally:
            self._attention = None

    def attend(self, *args: Any) -> Tensor:
        """See `AttentionPass.attend`."""
        assert self._attention is not None
        return self._attention.attend(*args)


class _RecordedAttention:
    """A pass's attention, each of whose calls is recorded as a whole.

    What it does depends on the lengths of the sequences, and so differs from pass to pass.
    """

    def __init__(self, recorder: Recorder, attend: Callable[..., Tensor]) -> None:
        self._recorder = recorder
        self._attend = attend

    def attend(self, *args: Any) -> Tensor:
        """See `AttentionPass.attend`."""
        output: Tensor = self._recorder.record(self._attend, *args)
        return output
