"""Greedy answers of the model in training, each up to where it ends or repeats itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from models.text.loops import looped

ROWS = 32
"""Answers that are generated at the same time."""


@torch.no_grad()
def greedy_answers(
    model: Any, prompts: Sequence[Sequence[int]], eos: int, max_new_tokens: int
) -> Iterator[dict[int, tuple[int, ...]]]:
    """Yield the model's greedy answers to prompts, `ROWS` at a time, by the prompts' indices.

    Prompts of similar length are answered together.

    Args:
        model: the base with its adapter.
        prompts: token ids.
        eos: id of the token that ends an answer; it is not part of it.
        max_new_tokens: most tokens of an answer.
    """
    model.eval()
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    for start in range(0, len(order), ROWS):
        indices = order[start : start + ROWS]
        answers = _answer_batch(model, [prompts[n] for n in indices], eos, max_new_tokens)
        yield dict(zip(indices, answers, strict=True))
    model.train()


def _answer_batch(
    model: Any, prompts: Sequence[Sequence[int]], eos: int, max_new_tokens: int
) -> list[tuple[int, ...]]:
    from transformers import DynamicCache

    device, length = model.device, max(map(len, prompts))
    padding = [length - len(prompt) for prompt in prompts]
    rows = zip(padding, prompts, strict=True)
    ids = torch.tensor([[0] * n + list(prompt) for n, prompt in rows]).to(device)
    mask = torch.tensor([[0] * n + [1] * (length - n) for n in padding]).to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    answers: list[list[int]] = [[] for _ in prompts]
    unfinished = list(range(len(prompts)))
    # An index tensor, not the number 1: see the engine's reference loop.
    last = torch.tensor([-1], device=device)
    cache = DynamicCache(config=model.config)
    narrow = model.dtype == torch.bfloat16
    for _ in range(max_new_tokens):
        with torch.autocast(device.type, model.dtype, enabled=narrow):
            output = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                cache=cache,
                use_cache=True,
                logits_to_keep=last,
            )
        sampled = output.logits[:, -1].argmax(-1)
        going_on = []
        for row, (n, id) in enumerate(zip(unfinished, sampled.tolist(), strict=True)):
            if id != eos:
                answers[n].append(id)
                if not looped(answers[n]):
                    going_on.append(row)
        if not going_on:
            break
        kept = torch.tensor(going_on, device=device)
        if len(going_on) < len(unfinished):
            unfinished = [unfinished[row] for row in going_on]
            cache.batch_select_indices(kept)
        ids, positions = sampled[kept][:, None], positions[kept, -1:] + 1
        mask = torch.cat([mask[kept], mask.new_ones(len(kept), 1)], dim=1)
    return [tuple(answer) for answer in answers]
