"""Replays passes of one token a row on a CPU: which shapes, and the proof that they are the same.

A pass of a few rows through a small model takes most of its time between the kernels, in Python and
in torch's handling of each call. The first passes of a shape are computed as always, then one is
recorded, and the next one is computed both ways: only a replay that is equal to the bit is used.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.engine.attention.attention import AttentionPass
from models.engine.layers.multi_lora import RowScales
from models.engine.replay.program import Program
from models.engine.replay.recording import NotReplayable, Recorder

MAX_ROWS = 24
"""Rows up to which a pass is replayed; with more, its kernels take nearly all of the time."""
RECORDED_AT = 4
"""Number of a shape's pass that is recorded: what comes less often is not worth it."""

Forward = Callable[[Tensor, Tensor, RowScales, Any], Tensor]
"""Ids, positions, row scales and the pass's attention → hidden states."""
_Shape = tuple[int, bool]
"""A pass's number of rows, and whether all are the base's."""
_LOG = logging.getLogger(__name__)


class Replays:
    """Computes the hidden states of passes, by replay where that is possible."""

    def __init__(self, forward: Forward) -> None:
        """Begin without recordings; `forward` is the ordinary pass."""
        self.reason = ""
        """Why no pass is replayed any more; empty if some may be."""
        self._forward = forward
        self._attention: AttentionPass | None = None
        """The attention of the current pass."""
        self._passes = Counter[_Shape]()
        self._programs: dict[_Shape, Program] = {}
        self._proven: set[_Shape] = set()

    @property
    def count(self) -> int:
        """Number of shapes that are replayed."""
        return len(self._proven)

    def __call__(
        self, ids: Tensor, positions: Tensor, rows: RowScales, attention: AttentionPass
    ) -> Tensor:
        """Return the hidden states of a pass: (B, T, d), for (B, T) ids and positions."""
        if self.reason or ids.shape[1] > 1 or len(ids) > MAX_ROWS:
            return self._forward(ids, positions, rows, attention)
        self._attention = attention
        try:
            return self._of_shape((len(ids), rows.all_base), ids, positions, rows)
        finally:
            self._attention = None  # or the caches of the last pass would stay

    def _of_shape(self, shape: _Shape, ids: Tensor, positions: Tensor, rows: RowScales) -> Tensor:
        self._passes[shape] += 1
        if shape in self._proven:
            return self._programs[shape](ids, positions, rows.scales)
        if self._passes[shape] == RECORDED_AT:
            return self._record(shape, ids, positions, rows)
        states = self._forward(ids, positions, rows, self._attention)
        if program := self._programs.get(shape):
            if torch.equal(program(ids, positions, rows.scales), states):
                self._proven.add(shape)
            else:
                _LOG.warning("A replayed step of %d rows differed from an ordinary one.", len(ids))
                self._stop("a replay differed from an ordinary pass")
        return states

    def _record(self, shape: _Shape, ids: Tensor, positions: Tensor, rows: RowScales) -> Tensor:
        """Compute a pass and record it, if it can be replayed."""
        recorder, inputs = Recorder(), (ids, positions, rows.scales)
        try:
            with recorder:
                states = self._forward(ids, positions, rows, _Recorded(recorder, self._attend))
        except NotReplayable as error:  # in the middle of the pass
            self._stop(str(error))
            return self._forward(ids, positions, rows, self._attention)
        try:
            self._programs[shape] = Program(recorder.calls, inputs, states)
        except NotReplayable as error:
            self._stop(str(error))
        return states

    def _attend(self, *args: Any) -> Tensor:
        assert self._attention is not None
        return self._attention.attend(*args)

    def _stop(self, reason: str) -> None:
        _LOG.info("Steps are not replayed: %s.", reason)
        self.reason = reason
        self._programs.clear()
        self._proven.clear()


class _Recorded:
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
