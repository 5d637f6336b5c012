"""Logits → ids.

Pure; the draw comes in as a uniform number, so that a seed decides the text whatever else is in
the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.types import Sampling

_NARROW = 4096
"""Candidates that are sorted first; a nucleus seldom holds more."""


def pick(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Choose the next token of each row.

    Top-k keeps the k likeliest tokens; then top-p keeps the smallest set of them whose mass under
    the temperature reaches p (Holtzman et al. 1904.09751, §3.1), the one that crosses it included.

    Args:
        logits: (B, V), any float dtype.
        uniforms: (B,) float64 in [0, 1): where in the kept mass each row draws. Greedy ignores it.
        sampling: temperature 0 is greedy.

    Returns:
        ids (B,) int64, and their log-probabilities (B,) float32 under the untouched model, in nats.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        ids = logits.argmax(-1)
    else:
        ids = _draw(logits / sampling.temperature, uniforms, sampling.top_k, sampling.top_p)
    return ids, logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)


def _draw(logits: Tensor, uniforms: Tensor, top_k: int, top_p: float) -> Tensor:
    """Invert the cumulative distribution of the kept tokens, the likeliest first."""
    vocabulary = logits.shape[1]
    size = min(top_k or vocabulary, vocabulary)
    if size == vocabulary and top_p == 1:  # nothing is cut, so the order is free: no sorting
        kept, order = logits, torch.arange(vocabulary, device=logits.device).expand_as(logits)
        mass = kept.double().softmax(-1)
    else:
        kept, order = logits.topk(min(size, _NARROW))
        whole = logits if size == vocabulary else logits.topk(size).values
        mass = (kept.double() - whole.double().logsumexp(-1, keepdim=True)).exp()
        if kept.shape[1] < size and bool((mass.sum(-1) < top_p).any()):
            kept, order = logits.topk(size)
            mass = kept.double().softmax(-1)
    before = mass.cumsum(-1) - mass
    mass = mass.masked_fill(before >= top_p, 0.0)
    reach = mass.cumsum(-1)
    drawn = (reach <= uniforms.to(reach)[:, None] * reach[:, -1:]).sum(-1)
    return order.gather(1, drawn.clamp(max=order.shape[1] - 1)[:, None])[:, 0]
