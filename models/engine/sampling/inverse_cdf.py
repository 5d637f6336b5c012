"""A uniform number → a token, by the logits of one row or more. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.engine.sampling.logits import chunk_log_sum_exp, log_sum_exp, split_vocabulary, top_ids
from models.types import Sampling

FEW = 256
"""Candidates that are sorted first; a nucleus seldom holds more."""
NARROW = 4096
"""Candidates that are sorted where it does, and by a CUDA graph, which cannot choose."""
REFUSALS = 16
"""Of one draw by bounds, before all logits are asked for; an ordinary text's has one or two."""


def sampling_tensors(
    samplings: Sequence[Sampling], device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return temperature, top-k and top-p of each row, (B,) each; greedy has temperature 1."""
    return (
        torch.tensor([s.temperature or 1.0 for s in samplings], device=device),
        torch.tensor([s.top_k for s in samplings], device=device),
        torch.tensor([s.top_p for s in samplings], dtype=torch.float64, device=device),
    )


def sample_truncated(
    logits: Tensor,
    uniforms: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    width: int = NARROW,
) -> tuple[Tensor, Tensor]:
    """Invert the cumulative distribution of the kept tokens, the likeliest first.

    Top-k keeps the k likeliest tokens; then top-p keeps the smallest set of them whose mass under
    the temperature reaches p (Holtzman et al. 1904.09751, §3.1), the one that crosses it included.
    No step depends on a value, so that a CUDA graph can hold it.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) float64 in [0, 1).
        temperature: (B,), above 0.
        top_k: (B,); 0 keeps the whole vocabulary.
        top_p: (B,) float64.
        width: how many of the likeliest tokens are looked at.

    Returns:
        ids (B,) int64, and for each whether `width` was wide enough to be sure of it.
    """
    vocabulary = logits.shape[1]
    width = min(width, vocabulary)
    scaled = logits / temperature[:, None]
    order = top_ids(scaled, width).sort().values  # of equals here the lowest comes first
    kept, ranks = scaled.gather(1, order).sort(descending=True, stable=True)
    order = order.gather(1, ranks)
    limit = torch.where(top_k > 0, top_k, vocabulary)[:, None]
    ranks = torch.arange(width, device=logits.device)
    inside = kept.double().masked_fill(ranks >= limit, -torch.inf)
    whole = torch.where(
        limit <= width,
        inside.logsumexp(-1, keepdim=True),
        log_sum_exp(scaled)[:, None].double(),
    )
    mass = (inside - whole).exp()
    reach = mass.cumsum(-1)
    # Where the limit is the width, others that are left out may be as likely.
    complete = (limit < width)[:, 0] | (width == vocabulary)
    nucleus = mass.masked_fill(reach - mass >= top_p[:, None], 0.0)
    inner = nucleus.cumsum(-1)
    drawn = (inner <= uniforms[:, None] * inner[:, -1:]).sum(-1).clamp(max=width - 1)
    sure = complete | ((reach[:, -1] >= top_p) & (top_p < 1) & (limit[:, 0] >= vocabulary))
    return order.gather(1, drawn[:, None])[:, 0], sure


def sample_full(scaled: Tensor, uniforms: Tensor) -> Tensor:
    """Invert the cumulative distribution of all tokens, in the order of their ids: (B,).

    In two stages, the part and the token in it, and without a sort. No step depends on a value.

    Args:
        scaled: (B, V) float32, logits over the temperature.
        uniforms: (B,) float64 in [0, 1).
    """
    rows = torch.arange(len(scaled), device=scaled.device)
    parts = split_vocabulary(scaled)
    sums = chunk_log_sum_exp(parts).double()
    mass = (sums - sums.amax(-1, keepdim=True)).exp()
    reach = mass.cumsum(-1)
    goal = uniforms * reach[:, -1]
    part = _crossed(reach, goal)
    own = (parts[rows, part].double() - sums[rows, part, None]).exp().cumsum(-1)
    share = (goal - reach[rows, part] + mass[rows, part]) / mass[rows, part]
    return part * parts.shape[2] + _crossed(own, share * own[:, -1])


def _crossed(reach: Tensor, goal: Tensor) -> Tensor:
    """Return which of the growing sums is the first above each goal: (B, N), (B,) → (B,)."""
    return (reach <= goal[:, None]).sum(-1).clamp(max=reach.shape[1] - 1)


def rejection_sample(
    most: Tensor,
    logit: Callable[[int], float],
    logits: Callable[[], Tensor],
    uniform: float,
    temperature: float,
) -> int:
    """Draw from all tokens, of whose logits only bounds are known, as if all were known.

    A token that is drawn by the bounds is kept as often as its own logit has it of its bound;
    else another is drawn (von Neumann's rejection). Where bounds say little, all are asked for.

    Args:
        most: (1, V) float32, what the logits are at most.
        logit: tells one of them.
        logits: tells all of them, (1, V) float32, at a price.
        uniform: in [0, 1); all that is drawn here follows from it.
        temperature: above 0.
    """
    scaled, more = most / temperature, random.Random(uniform)
    for _ in range(REFUSALS):
        id = _drawn_from_all(scaled, uniform)
        own, bound = logit(id) / temperature, float(scaled[0, id])
        if more.random() < math.exp(min(0.0, own - bound)):
            return id
        scaled[0, id] = own  # so that none is refused twice
        uniform = more.random()
    return _drawn_from_all(logits() / temperature, uniform)


def _drawn_from_all(scaled: Tensor, uniform: float) -> int:
    return int(sample_full(scaled, scaled.new_tensor([uniform], dtype=torch.float64)))
