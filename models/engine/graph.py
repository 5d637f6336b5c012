"""A step that never changes its shape, so that a CUDA graph can hold it.

Launching the thousand kernels of a step one by one takes longer than running them; a captured graph
launches them as one. For that every row has a lane of one length in one tensor, and the step runs
over the first lanes, whoever is in them: a lane without a running row computes, too, and writes to
a column that nobody sees.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.sampling import draw, knobs, likeliest, logprobs
from models.engine.slots import KvShape, Slot
from models.engine.stacked import Carried
from models.types import Sampling

COUNTS = (1, 2, 3, 4, 6, 9, 12, 16)
"""Lanes that a step is captured for."""
SHORTEST = 256
"""Columns of the shortest step; each next is twice as long."""


class Lane(Slot):
    """A slot that is a part of one tensor and never moves."""

    def __init__(self, lanes: Lanes, number: int, carries: tuple[int, float]) -> None:
        """Begin empty, in a lane that is free."""
        self.number = number
        self._lanes = lanes
        super().__init__(lanes.shape, carries)

    def reserve(self, length: int) -> None:
        """Refuse what does not fit.

        Raises:
            MemoryError: the lane is shorter than that.
        """
        if length > self._lanes.length:
            raise MemoryError(f"a row of {length} tokens, in lanes of {self._lanes.length}")

    def cut(self, length: int) -> None:
        """Hold the first tokens only."""
        del self.fed[length:]

    def _hold(self, capacity: int) -> None:
        self._kv = self._lanes.kv[:, self.number : self.number + 1]


class Lanes:
    """Keys and values of many rows, in one tensor."""

    def __init__(self, shape: KvShape, count: int, length: int) -> None:
        """Take how many rows at most, and how many tokens each at most."""
        self.shape = shape
        self.length = length
        self.kv = torch.zeros(
            (2 * shape.layers, count, shape.heads, length + 1, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )

    def take(self, carries: tuple[int, float], taken: Sequence[Slot]) -> Lane | None:
        """Return the first lane that is not taken; None where all are."""
        numbers = {lane.number for lane in taken if isinstance(lane, Lane)}
        free = next((n for n in range(self.kv.shape[1]) if n not in numbers), None)
        return None if free is None else Lane(self, free, carries)


class LanePass:
    """One pass over the first lanes, one token each. Stands where `slots.Pass` does."""

    def __init__(self, kv: Tensor, positions: Tensor, columns: Tensor, seen: int) -> None:
        """Take the lanes' part of the tensor, and where each lane's token stands.

        Args:
            kv: (2 · layers, B, heads, columns that may be written, size).
            positions: (B,): a token sees the columns up to its position.
            columns: (B,): where its key and value are written.
            seen: how many columns attention reads; none of the positions is beyond.
        """
        self.seen = seen
        self._kv = kv
        self._positions = positions
        self._columns = columns
        self._rows = torch.arange(kv.shape[1], device=kv.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """(B, H, 1, D), (B, heads, 1, D) twice → (B, 1, H, D)."""
        keys, values = self._kv[2 * layer], self._kv[2 * layer + 1]
        keys[self._rows, :, self._columns] = key[:, :, 0]
        values[self._rows, :, self._columns] = value[:, :, 0]
        rows, heads, _, size = query.shape
        found = functional.scaled_dot_product_attention(
            query.view(rows, key.shape[1], -1, size),
            keys[:, :, : self.seen],
            values[:, :, : self.seen],
            attn_mask=self._mask(window),
            scale=scaling,
        )
        return found.reshape(rows, 1, heads, size)

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            back = self._positions[:, None] - torch.arange(self.seen, device=self._kv.device)
            visible = back >= 0 if window is None else (back >= 0) & (back < window)
            self._masks[window] = visible[:, None, None]
        return self._masks[window]


class StaticStep:
    """The step of the first `count` lanes, reading the first `seen` columns."""

    def __init__(self, engine: Any, lanes: Lanes, count: int, seen: int) -> None:
        """Take an engine's model, head and adapters; nothing is captured yet."""
        device = lanes.shape.device
        carried: Carried = engine.carried
        self.count = count
        self._engine = engine
        self._lanes = lanes
        self._seen = seen
        self._whole = torch.zeros(4, count, dtype=torch.int64, device=device)
        """Ids, positions, columns, top-k."""
        self._real = torch.zeros(3, count, dtype=torch.float64, device=device)
        """Uniforms, temperatures, top-p."""
        self._weights = carried.chosen([(0, 1.0)] * count)
        self._out = torch.zeros(3, count, dtype=torch.float64, device=device)
        self.logits = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self) -> None:
        """Compute the step; no operation here depends on a value or waits for the device."""
        ids, positions, columns, top_k = self._whole
        uniforms, temperature, top_p = self._real
        self._engine.carried.use(self._weights)
        kv = self._lanes.kv[:, : self.count]
        step = LanePass(kv, positions, columns, self._seen)
        hidden = self._engine.model.base_model(
            input_ids=ids[:, None], position_ids=positions[:, None], use_cache=False, slots=step
        ).last_hidden_state[:, -1]
        self.logits = self._engine.head(hidden).float()
        drawn, sure = draw(self.logits, uniforms, temperature.abs().float(), top_k, top_p)
        greedy = temperature < 0  # a sign, for a greedy row's temperature says nothing
        picked = torch.where(greedy, likeliest(self.logits), drawn)
        told = (picked, logprobs(self.logits, picked), sure | greedy)
        self._out.copy_(torch.stack([one.double() for one in told]))

    def capture(self, pool: Any) -> None:
        """Record the step as a CUDA graph, in memory that all graphs of an engine share.

        Raises:
            RuntimeError: the model does something that a graph cannot hold.
        """
        for _ in range(2):  # kernels are chosen and workspaces made in the first runs
            self.run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            self.run()
        self._graph = graph

    def launch(
        self,
        lanes: Sequence[Lane],
        ids: Sequence[int],
        samplings: Sequence[Sampling],
        uniforms: Sequence[float],
    ) -> Callable[[], list[list[float]]]:
        """Begin the step for some lanes; returns what waits for (id, log-probability, sure)."""
        spare = self._lanes.length
        whole = [[0] * self.count, [0] * self.count, [spare] * self.count, [0] * self.count]
        real = [[0.0] * self.count, [-1.0] * self.count, [1.0] * self.count]
        carries = [(0, 1.0)] * self.count
        temperatures, top_ks, top_ps = (one.tolist() for one in knobs(samplings))
        for n, lane in enumerate(lanes):
            at = len(lane.fed)
            for row, value in zip(whole, (ids[n], at, at, top_ks[n]), strict=True):
                row[lane.number] = value
            temperature = temperatures[n] if samplings[n].temperature else -1.0
            for numbers, number in zip(real, (uniforms[n], temperature, top_ps[n]), strict=True):
                numbers[lane.number] = number
            carries[lane.number] = lane.carries
        self._whole.copy_(torch.tensor(whole))
        self._real.copy_(torch.tensor(real, dtype=torch.float64))
        self._weights.copy_(self._engine.carried.chosen(carries))
        if self._graph:
            self._graph.replay()
        else:
            self.run()
        return lambda: self._out[:, [lane.number for lane in lanes]].T.tolist()


class Steps:
    """The static steps of an engine, each made when it is first needed."""

    def __init__(self, engine: Any, lanes: Lanes) -> None:
        """Take an engine and its lanes."""
        self._engine = engine
        self.lanes = lanes
        self._made: dict[tuple[int, int], StaticStep] = {}
        self.captures = lanes.shape.device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None
        """Whether steps are captured; a failure turns it off, and is logged."""

    def of(self, lanes: Sequence[Lane]) -> StaticStep:
        """Return the step that these lanes need."""
        most = self.lanes.kv.shape[1]
        needed = 1 + max(lane.number for lane in lanes)
        count = min(next((n for n in COUNTS if n >= needed), most), most)
        seen = SHORTEST
        while seen <= max(len(lane.fed) for lane in lanes):
            seen *= 2
        key = (count, min(seen, self.lanes.length))
        if key not in self._made:
            step = StaticStep(self._engine, self.lanes, *key)
            if self.captures:
                try:
                    step.capture(self._pool)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    self.captures = False
                    logging.getLogger(__name__).warning(
                        "No CUDA graph, steps are launched kernel by kernel: %s", error
                    )
            self._made[key] = step
        return self._made[key]
