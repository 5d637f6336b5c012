"""The reference generation loop, with transformers' own cache, masks and attention.

Simple and correct: the prompts are one batch, padded on the left; one forward pass fills the cache,
then each pass generates one token per row. Tests and the benchmark compare the engine with it.
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
    model: Any, adapters: ActiveAdapters, specs: Sequence[SequenceSpec], sampling: Sampling
) -> list[list[SampledToken]]:
    """Generate `max_new_tokens` tokens for each prompt; end-of-text tokens are ignored.

    Args:
        model: a causal language model with transformers' own attention.
        adapters: the adapters that its layers hold.
        specs: the prompts, each under its adapter.
        sampling: settings for all prompts, without penalties; each prompt has its own generator
            with the same seed.
    """
    assert not sampling.is_penalised
    from transformers import DynamicCache

    length = max(len(spec.ids) for spec in specs)
    ids = torch.tensor([[0] * (length - len(spec.ids)) + list(spec.ids) for spec in specs])
    mask = torch.tensor([[0] * (length - len(spec.ids)) + [1] * len(spec.ids) for spec in specs])
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    draws = [random.Random(sampling.seed) for _ in specs]
    texts: list[list[SampledToken]] = [[] for _ in specs]
    # An index tensor, not the number 1, which would make a non-contiguous slice of the batch: for
    # that torch copies the whole output head for every row (2.0 s for three rows, not 0.08).
    last = torch.tensor([-1], device=model.device)
    cache = DynamicCache(config=model.config)
    for _ in range(sampling.max_new_tokens):
        output = adapters.run(
            model,
            [spec.adapter_scale for spec in specs],
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            use_cache=True,
            logits_to_keep=last,
        )
        uniforms = [draw.random() for draw in draws]
        sampled, logprobs = sample_tokens(output.logits[:, -1], uniforms, [sampling] * len(specs))
        for text, id, logprob in zip(texts, sampled.tolist(), logprobs.tolist(), strict=True):
            text.append(SampledToken(id, logprob))
        ids, positions = sampled[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(specs), 1)], dim=1)
    return texts
