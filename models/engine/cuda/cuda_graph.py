"""Decode steps of fixed shape, captured as CUDA graphs.

Launching the thousand kernels of a step one by one takes longer than running them; a captured graph
launches them as one. For that every sequence has a slot of the same length in one tensor, and a
step computes the first slots, used or not: a free slot is computed, too, and writes to a column
that is never read. No step is used before it was compared with the ordinary one (`step_check.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from models.engine.cuda.static_kv_cache import StaticAttentionPass, StaticKVCache, StaticKVSlot
from models.engine.cuda.step_check import check_step
from models.engine.interface import BASE, SampledToken
from models.engine.language_model import LanguageModel
from models.engine.sampling.inverse_cdf import sample_full, sample_truncated, sampling_tensors
from models.engine.sampling.logits import argmax, logprobs
from models.engine.sampling.sampler import sample_tokens
from models.engine.sequence import ActiveSequence
from models.errors import first_line
from models.model_info import StepCheck
from models.types import Sampling

_log = logging.getLogger(__name__)
BATCH_SIZES = (1, 2, 3, 4, 6, 9, 12, 16)
"""Batch sizes (numbers of slots) that steps are captured for."""
MIN_COLUMNS = 256
"""Columns (cached tokens) that the shortest step reads; each longer one reads twice as many."""


class StaticStep:
    """A decode step of the first `count` slots, which reads their first `columns_read` columns."""

    def __init__(
        self, lm: LanguageModel, cache: StaticKVCache, count: int, columns_read: int
    ) -> None:
        """Allocate the step's inputs and outputs; nothing is captured yet.

        Until sequences are fed, every row is greedy and writes to the column that is never read:
        the runs that precede a capture must not touch the slots of running sequences.
        """
        device = cache.shape.device
        self.count = count
        self.columns_read = columns_read
        self._lm = lm
        self._cache = cache
        self._integers = torch.zeros(4, count, dtype=torch.int64, device=device)
        """Token ids, positions, columns, top-k."""
        self._integers[2] = cache.length
        self._reals = torch.zeros(3, count, dtype=torch.float64, device=device)
        """Uniforms, temperatures (−1 for a greedy row), top-p."""
        self._reals[1], self._reals[2] = -1.0, 1.0
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
            self._cache.kv[:, : self.count], positions, columns, self.columns_read
        )
        hidden = self._lm.hidden_states(
            ids[:, None], positions[:, None], self._row_scales, attention
        )
        self.logits = self._lm.head(hidden[:, -1]).float()
        safe_temperature = temperature.abs().float()
        none = torch.zeros_like(safe_temperature)  # min-p is rare: `StaticSteps` samples such rows
        sampled, sure = sample_truncated(
            self.logits, uniforms, safe_temperature, top_k, top_p, none
        )
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
        settings = (tensor.tolist() for tensor in sampling_tensors(samplings))
        temperatures, top_ks, top_ps, _ = settings
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
    """The static steps of a model, each created and checked when it is first needed."""

    def __init__(self, lm: LanguageModel, cache: StaticKVCache, prompt: Sequence[int]) -> None:
        """Prepare steps of a model over a static KV cache; `prompt` is what they are checked on."""
        self.cache = cache
        self._lm = lm
        self._prompt = prompt
        self._steps: dict[tuple[int, int], StaticStep | None] = {}
        self.checks: list[StepCheck] = []
        """How each step compares with the ordinary one."""
        self.captures = cache.shape.device.type == "cuda"
        """Whether steps are captured; a failure turns it off, and is logged."""
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None

    def step_for(self, slots: Sequence[StaticKVSlot]) -> StaticStep | None:
        """Return the smallest step that covers these slots, created if it is new.

        Returns:
            None if that step does not compute what the ordinary one does.
        """
        needed = 1 + max(slot.number for slot in slots)
        columns_read = MIN_COLUMNS
        while columns_read <= max(len(slot.ids) for slot in slots):
            columns_read *= 2
        return self._step(next(n for n in self._batch_sizes() if n >= needed), columns_read)

    @torch.inference_mode()
    def create_all(self) -> None:
        """Create and check the shortest step of every batch size, as far as memory allows."""
        for count in self._batch_sizes():
            try:
                self._step(count, MIN_COLUMNS)
            except torch.OutOfMemoryError as error:
                _log.warning("No memory for a step of %d rows yet: %s", count, first_line(error))
                return

    def _batch_sizes(self) -> list[int]:
        most = self.cache.kv.shape[1]
        return [*(n for n in BATCH_SIZES if n < most), most]

    def _step(self, count: int, columns_read: int) -> StaticStep | None:
        key = (count, min(columns_read, self.cache.length))
        if key not in self._steps:
            step = StaticStep(self._lm, self.cache, *key)
            captured = self._capture(step)
            check = check_step(self._lm, self.cache, step, self._prompt, captured)
            self.checks.append(check)
            self._steps[key] = None if check.fault else step
            if check.fault:
                _log.warning(
                    "Steps of %d rows and %d cached tokens run without CUDA graph: %s.",
                    *key,
                    check.fault,
                )
        return self._steps[key]

    def _capture(self, step: StaticStep) -> bool:
        """Capture a step as a CUDA graph, if that is possible; return whether it was."""
        if self.captures:
            try:
                step.capture(self._pool)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.captures = False
                _log.warning("No CUDA graph, steps are launched kernel by kernel: %s", error)
        return self.captures

    def start(
        self, sequences: Sequence[ActiveSequence]
    ) -> Callable[[], list[list[SampledToken]]] | None:
        """Start a step of some sequences; return a function that waits for their next tokens.

        Returns:
            None if ordinary steps are to run in its place; nothing was started then.
        """
        slots = [s.cache for s in sequences if isinstance(s.cache, StaticKVSlot)]
        if (step := self.step_for(slots)) is None:
            return None
        fed = [sequence.next_id for sequence in sequences]
        uniforms = [sequence.uniforms(1)[0] for sequence in sequences]
        samplings = [sequence.sampling for sequence in sequences]
        wait = step.start(slots, fed, samplings, uniforms)

        def next_tokens() -> list[list[SampledToken]]:
            with torch.inference_mode(), self._lm.stream():
                outputs = wait()
                for n, (_, _, sure) in enumerate(outputs):
                    seen = sequences[n].seen(())
                    # If it is not sure, the sample may lie beyond the sorted candidates.
                    if not sure or seen or samplings[n].min_p:
                        logits = step.logits[slots[n].number, None]
                        ids, logps = sample_tokens(
                            logits,
                            uniforms[n : n + 1],
                            samplings[n : n + 1],
                            seen={0: seen} if seen else None,
                        )
                        outputs[n] = [ids.item(), logps.item(), 1.0]
            tokens = [[SampledToken(int(id), logprob)] for id, logprob, _ in outputs]
            for sequence, id, sampled in zip(sequences, fed, tokens, strict=True):
                sequence.cache.ids.append(id)
                sequence.accept(sampled)
            return tokens

        return next_tokens
