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

from models.engine.cuda.static_kv_cache import StaticAttentionPass, StaticKVCache, StaticKVSlot
from models.engine.interface import SampledToken
from models.engine.layers.multi_lora import ActiveAdapters
from models.engine.sampling.inverse_cdf import sample_full, sample_truncated, sampling_tensors
from models.engine.sampling.logits import likeliest, logprobs
from models.engine.sampling.sampler import sample_tokens
from models.engine.sequence import ActiveSequence
from models.types import Sampling

COUNTS = (1, 2, 3, 4, 6, 9, 12, 16)
"""Lanes that a step is captured for."""
SHORTEST = 256
"""Columns of the shortest step; each next is twice as long."""


class StaticStep:
    """The step of the first `count` lanes, reading the first `seen` columns."""

    def __init__(self, engine: Any, lanes: StaticKVCache, count: int, seen: int) -> None:
        """Take an engine's model, head and adapters; nothing is captured yet."""
        device = lanes.shape.device
        carried: ActiveAdapters = engine.carried
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
        step = StaticAttentionPass(kv, positions, columns, self._seen)
        hidden = self._engine.model.base_model(
            input_ids=ids[:, None], position_ids=positions[:, None], use_cache=False, slots=step
        ).last_hidden_state[:, -1]
        self.logits = self._engine.head(hidden).float()
        heat = temperature.abs().float()
        drawn, sure = sample_truncated(self.logits, uniforms, heat, top_k, top_p)
        from_all = (top_k == 0) & (top_p >= 1)
        drawn = torch.where(from_all, sample_full(self.logits / heat[:, None], uniforms), drawn)
        greedy = temperature < 0  # a sign, for a greedy row's temperature says nothing
        picked = torch.where(greedy, likeliest(self.logits), drawn)
        told = (picked, logprobs(self.logits, picked), sure | greedy | from_all)
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
        lanes: Sequence[StaticKVSlot],
        ids: Sequence[int],
        samplings: Sequence[Sampling],
        uniforms: Sequence[float],
    ) -> Callable[[], list[list[float]]]:
        """Begin the step for some lanes; returns what waits for (id, log-probability, sure)."""
        spare = self._lanes.length
        whole = [[0] * self.count, [0] * self.count, [spare] * self.count, [0] * self.count]
        real = [[0.0] * self.count, [-1.0] * self.count, [1.0] * self.count]
        carries = [(0, 1.0)] * self.count
        temperatures, top_ks, top_ps = (one.tolist() for one in sampling_tensors(samplings))
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


class StaticSteps:
    """The static steps of an engine, each made when it is first needed."""

    def __init__(self, engine: Any, lanes: StaticKVCache) -> None:
        """Take an engine and its lanes."""
        self._engine = engine
        self.lanes = lanes
        self._made: dict[tuple[int, int], StaticStep] = {}
        self.captures = lanes.shape.device.type == "cuda"
        """Whether steps are captured; a failure turns it off, and is logged."""
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None

    def of(self, lanes: Sequence[StaticKVSlot]) -> StaticStep:
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

    def launch(self, rows: Sequence[ActiveSequence]) -> Callable[[], list[list[SampledToken]]]:
        """Begin the step of some rows; returns what waits for the next token of each."""
        lanes = [row.slot for row in rows if isinstance(row.slot, StaticKVSlot)]
        step = self.of(lanes)
        fed = [row.next_id for row in rows]
        uniforms = [row.uniforms(1)[0] for row in rows]
        samplings = [row.sampling for row in rows]
        wait = step.launch(lanes, fed, samplings, uniforms)

        def picked() -> list[list[SampledToken]]:
            with torch.inference_mode(), self._engine.stream():
                found = wait()
                for n, (_, _, sure) in enumerate(found):
                    if not sure:  # the draw fell beyond what is sorted first
                        logits = step.logits[lanes[n].number, None]
                        ids, logprobs = sample_tokens(
                            logits, uniforms[n : n + 1], samplings[n : n + 1]
                        )
                        found[n] = [ids.item(), logprobs.item(), 1.0]
            said = [[SampledToken(int(id), logprob)] for id, logprob, _ in found]
            for row, id, one in zip(rows, fed, said, strict=True):
                row.slot.fed.append(id)
                row.take(one)
            return said

        return picked
