"""Decode steps of fixed shape, captured as CUDA graphs.

Launching the thousand kernels of a step one by one takes longer than running them; a captured graph
launches them as one. For that every sequence has a slot of the same length in one tensor, and a
step computes the first slots, used or not: a free slot is computed, too, and writes to a column
that is never read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from models.engine.cuda.static_kv_cache import StaticAttentionPass, StaticKVCache, StaticKVSlot
from models.engine.interface import BASE, SampledToken
from models.engine.language_model import LanguageModel
from models.engine.sampling.inverse_cdf import sample_full, sample_truncated, sampling_tensors
from models.engine.sampling.logits import argmax, logprobs
from models.engine.sampling.sampler import sample_tokens
from models.engine.sequence import ActiveSequence
from models.types import Sampling

BATCH_SIZES = (1, 2, 3, 4, 6, 9, 12, 16)
"""Batch sizes (numbers of slots) that steps are captured for."""
MIN_COLUMNS = 256
"""Columns (cached tokens) that the shortest step reads; each longer one reads twice as many."""


class StaticStep:
    """A decode step of the first `count` slots, which reads their first `columns_read` columns."""

    def __init__(
        self, lm: LanguageModel, cache: StaticKVCache, count: int, columns_read: int
    ) -> None:
        """Allocate the step's inputs and outputs; nothing is captured yet."""
        device = cache.shape.device
        self.count = count
        self._lm = lm
        self._cache = cache
        self._columns_read = columns_read
        self._integers = torch.zeros(4, count, dtype=torch.int64, device=device)
        """Token ids, positions, columns, top-k."""
        self._reals = torch.zeros(3, count, dtype=torch.float64, device=device)
        """Uniforms, temperatures (−1 for a greedy row), top-p."""
        self._row_scales = lm.adapters.row_scales([BASE] * count)
        self._out = torch.zeros(3, count, dtype=torch.float64, device=device)
        """Sampled ids, their log-probabilities, and whether the sample is certain."""
        self.logits = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self) -> None:
        """Compute the step, without branching on a tensor's value or waiting for the device."""
        ids, positions, columns, top_k = self._integers
        uniforms, temperature, top_p = self._reals
        attention = StaticAttentionPass(
            self._cache.kv[:, : self.count], positions, columns, self._columns_read
        )
        hidden = self._lm.hidden_states(
            ids[:, None], positions[:, None], self._row_scales, attention
        )
        self.logits = self._lm.head(hidden[:, -1]).float()
        safe_temperature = temperature.abs().float()
        sampled, sure = sample_truncated(self.logits, uniforms, safe_temperature, top_k, top_p)
        full = (top_k == 0) & (top_p >= 1)
        sampled = torch.where(
            full, sample_full(self.logits / safe_temperature[:, None], uniforms), sampled
        )
        greedy = temperature < 0
        tokens = torch.where(greedy, argmax(self.logits), sampled)
        outputs = (tokens, logprobs(self.logits, tokens), sure | greedy | full)
        self._out.copy_(torch.stack([output.double() for output in outputs]))

    def capture(self, pool: Any) -> None:
        """Record the step as a CUDA graph, in memory that all graphs of a model share.

        Raises:
            RuntimeError: the model uses an operation that a graph cannot contain.
        """
        for _ in range(2):  # the first runs choose kernels and allocate workspaces
            self.run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=torch.cuda.current_stream()):
            self.run()
        self._graph = graph

    def start(
        self,
        slots: Sequence[StaticKVSlot],
        ids: Sequence[int],
        samplings: Sequence[Sampling],
        uniforms: Sequence[float],
    ) -> Callable[[], list[list[float]]]:
        """Start the step; return a function that waits for each slot's (id, logprob, certain)."""
        unread = self._cache.length
        integers = [[0] * self.count, [0] * self.count, [unread] * self.count, [0] * self.count]
        reals = [[0.0] * self.count, [-1.0] * self.count, [1.0] * self.count]
        rows = [BASE] * self.count
        temperatures, top_ks, top_ps = (tensor.tolist() for tensor in sampling_tensors(samplings))
        for n, slot in enumerate(slots):
            at = len(slot.ids)
            for row, value in zip(integers, (ids[n], at, at, top_ks[n]), strict=True):
                row[slot.number] = value
            temperature = temperatures[n] if samplings[n].temperature else -1.0
            for numbers, number in zip(reals, (uniforms[n], temperature, top_ps[n]), strict=True):
                numbers[slot.number] = number
            rows[slot.number] = slot.adapter_scale
        self._integers.copy_(torch.tensor(integers))
        self._reals.copy_(torch.tensor(reals, dtype=torch.float64))
        self._row_scales.copy_(self._lm.adapters.row_scales(rows))
        if self._graph:
            self._graph.replay()
        else:
            self.run()
        return lambda: self._out[:, [slot.number for slot in slots]].T.tolist()


class StaticSteps:
    """The static steps of a model, each created when it is first needed."""

    def __init__(self, lm: LanguageModel, cache: StaticKVCache) -> None:
        """Prepare steps of a model over a static KV cache."""
        self.cache = cache
        self._lm = lm
        self._steps: dict[tuple[int, int], StaticStep] = {}
        self.captures = cache.shape.device.type == "cuda"
        """Whether steps are captured; a failure turns it off, and is logged."""
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None

    def step_for(self, slots: Sequence[StaticKVSlot]) -> StaticStep:
        """Return the smallest step that covers these slots; capture it if it is new."""
        most = self.cache.kv.shape[1]
        needed = 1 + max(slot.number for slot in slots)
        count = min(next((n for n in BATCH_SIZES if n >= needed), most), most)
        columns_read = MIN_COLUMNS
        while columns_read <= max(len(slot.ids) for slot in slots):
            columns_read *= 2
        key = (count, min(columns_read, self.cache.length))
        if key not in self._steps:
            step = StaticStep(self._lm, self.cache, *key)
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
            self._steps[key] = step
        return self._steps[key]

    def start(self, sequences: Sequence[ActiveSequence]) -> Callable[[], list[list[SampledToken]]]:
        """Start a step of some sequences; return a function that waits for their next tokens."""
        slots = [s.cache for s in sequences if isinstance(s.cache, StaticKVSlot)]
        step = self.step_for(slots)
        fed = [sequence.next_id for sequence in sequences]
        uniforms = [sequence.uniforms(1)[0] for sequence in sequences]
        samplings = [sequence.sampling for sequence in sequences]
        wait = step.start(slots, fed, samplings, uniforms)

        def next_tokens() -> list[list[SampledToken]]:
            with torch.inference_mode(), self._lm.stream():
                outputs = wait()
                for n, (_, _, sure) in enumerate(outputs):
                    if not sure:  # the sample may lie beyond the sorted candidates
                        logits = step.logits[slots[n].number, None]
                        ids, logps = sample_tokens(
                            logits, uniforms[n : n + 1], samplings[n : n + 1]
                        )
                        outputs[n] = [ids.item(), logps.item(), 1.0]
            tokens = [[SampledToken(int(id), logprob)] for id, logprob, _ in outputs]
            for sequence, id, sampled in zip(sequences, fed, tokens, strict=True):
                sequence.cache.ids.append(id)
                sequence.accept(sampled)
            return tokens

        return next_tokens
