"""What the engine is compared with: transformers' own cache, masks and attention.

Plain and right: the rows are one batch, padded on the left; one forward pass fills the cache, then
each pass gives one token to every row. Tests and the benchmark use it; answers come from `engine`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from models.engine.interface import SampledToken, SequenceSpec
from models.engine.layers.multi_lora import ActiveAdapters
from models.engine.sampling.sampler import sample_tokens
from models.types import Sampling


@torch.inference_mode()
def generate(
    model: Any, carried: ActiveAdapters, rows: Sequence[SequenceSpec], sampling: Sampling
) -> list[list[SampledToken]]:
    """Return `max_new_tokens` tokens for each row; no token ends a text.

    Args:
        model: a causal language model with transformers' own attention.
        carried: what its stacked layers read.
        rows: what is asked, under which adapter.
        sampling: for all rows; each draws by its own seed.
    """
    from transformers import DynamicCache

    length = max(len(row.ids) for row in rows)
    ids = torch.tensor([[0] * (length - len(row.ids)) + list(row.ids) for row in rows])
    mask = torch.tensor([[0] * (length - len(row.ids)) + [1] * len(row.ids) for row in rows])
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    draws = [random.Random(sampling.seed) for _ in rows]
    carried.select([row.carries for row in rows])
    said: list[list[SampledToken]] = [[] for _ in rows]
    # An index, not the number 1: a slice of a batch is no contiguous matrix, and for such a one
    # torch copies the whole output head for every row (2.0 s for three rows, instead of 0.08).
    last = torch.tensor([-1], device=model.device)
    cache = DynamicCache(config=model.config)
    for _ in range(sampling.max_new_tokens):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            use_cache=True,
            logits_to_keep=last,
        )
        uniforms = [draw.random() for draw in draws]
        picked, logprobs = sample_tokens(out.logits[:, -1], uniforms, [sampling] * len(rows))
        for row, id, logprob in zip(said, picked.tolist(), logprobs.tolist(), strict=True):
            row.append(SampledToken(id, logprob))
        ids, positions = picked[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return said
