"""Rows of ids → the next id of each row, step by step. Knows ids, not text.

Plain and right: the rows of one base are one batch, padded on the left; one forward pass fills the
cache, then each pass gives one token to every row. Rows leave the batch when they end.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.sampling import pick
from models.stacked import StackedLora
from models.types import Sampling


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt under one adapter."""

    ids: tuple[int, ...]
    adapter: int = 0
    """Entry of the stack; 0 is the base."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The next token of a row."""

    id: int
    logprob: float
    """In nats, under the model before temperature and truncation."""


Steps = Generator[dict[int, Picked], Collection[int] | None, None]


class Engine:
    """One model with its stacked adapters; one batch at a time."""

    def __init__(self, model: Any, layers: Sequence[StackedLora], pad_id: int = 0) -> None:
        """Take a causal language model whose adapters are folded into `layers`."""
        self.model = model
        self.layers = layers
        self.pad_id = pad_id

    @torch.inference_mode()
    def steps(self, rows: Sequence[Row], sampling: Sampling) -> Steps:
        """Generate for all rows together.

        Yields the next token of every running row, by row number. The numbers of rows that end are
        sent in; when none runs, the generator ends. Closing it drops the cache. The caller counts
        tokens and knows which ids end a text.
        """
        device = self.model.device
        ids, mask = self._left_padded(rows)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        draws = [torch.Generator().manual_seed(sampling.seed) for _ in rows]
        running = list(range(len(rows)))
        self._select(rows, running)
        # An index, not the number 1: a slice of a batch is no contiguous matrix, and for such a one
        # torch copies the whole output head for every row (2.0 s for three rows, instead of 0.08).
        last = torch.tensor([-1], device=device)
        cache = None
        while running:
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=last,
            )
            cache = out.past_key_values
            uniforms = torch.cat(
                [torch.rand(1, generator=draws[row], dtype=torch.float64) for row in running]
            )
            picked, logprobs = pick(out.logits[:, -1], uniforms.to(device), sampling)
            del out
            ended = yield {
                row: Picked(id, logprob)
                for row, id, logprob in zip(
                    running, picked.tolist(), logprobs.tolist(), strict=True
                )
            }
            ids, positions = picked[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(running), 1)], dim=1)
            if ended:
                kept = [n for n, row in enumerate(running) if row not in ended]
                running = [running[n] for n in kept]
                if running:
                    chosen = torch.tensor(kept, device=device)
                    ids, mask, positions = ids[chosen], mask[chosen], positions[chosen]
                    cache.batch_select_indices(chosen)
                    self._select(rows, running)

    def _left_padded(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask, both (B, T) int64: every row ends at the last column."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for n, row in enumerate(rows):
            ids[n, longest - len(row.ids) :] = torch.tensor(row.ids)
            mask[n, longest - len(row.ids) :] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _select(self, rows: Sequence[Row], running: Sequence[int]) -> None:
        adapters = torch.tensor([rows[n].adapter for n in running], device=self.model.device)
        for layer in self.layers:
            layer.select(adapters)
