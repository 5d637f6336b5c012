"""Inverse-CDF sampling: a uniform random number → a token id. Pure functions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.engine.sampling.logits import (
    chunk_log_sum_exp,
    log_sum_exp,
    split_vocabulary,
    top_ids,
)
from models.types import Sampling

NARROW = 256
"""Number of candidates sorted at first; a nucleus seldom has more."""
WIDE = 4096
"""Candidates sorted if a nucleus has more, and always in a CUDA graph, which cannot branch."""
MAX_REJECTIONS = 16
"""Most rejections of one sample before all logits are computed; ordinary text has one or two."""


def sampling_tensors(
    samplings: Sequence[Sampling], device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return temperature, top-k, top-p and min-p, (B,) each; greedy has temperature 1."""
    return (
        torch.tensor([sampling.temperature or 1.0 for sampling in samplings], device=device),
        torch.tensor([sampling.top_k for sampling in samplings], device=device),
        torch.tensor(
            [sampling.top_p for sampling in samplings], dtype=torch.float64, device=device
        ),
        torch.tensor([sampling.min_p for sampling in samplings], device=device),
    )


def sample_truncated(
    logits: Tensor,
    uniforms: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    width: int = WIDE,
) -> tuple[Tensor, Tensor]:
    """Sample under top-k, top-p and min-p, from the kept tokens in order of likelihood.

    Top-k keeps the k most likely tokens; then top-p keeps the smallest set of them whose mass under
    the temperature reaches p (Holtzman et al. 1904.09751, §3.1), the one that crosses it included;
    min-p drops those whose share of the likeliest one's probability is less (2407.01082). No
    operation branches on a value, so that a CUDA graph can capture it.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) float64 in [0, 1).
        temperature: (B,), above 0.
        top_k: (B,); 0 keeps the whole vocabulary.
        top_p: (B,) float64.
        min_p: (B,); 0 drops nothing.
        width: number of most likely tokens that are considered.

    Returns:
        ids (B,) int64, and for each row whether `width` was wide enough to be sure of its id.
    """
    vocabulary = logits.shape[1]
    width = min(width, vocabulary)
    scaled = logits / temperature[:, None]
    order = top_ids(scaled, width).sort().values  # among equals, the lowest id first
    kept, ranks = scaled.gather(1, order).sort(descending=True, stable=True)
    order = order.gather(1, ranks)
    limit = torch.where(top_k > 0, top_k, vocabulary)[:, None]
    ranks = torch.arange(width, device=logits.device)
    inside = kept.double().masked_fill(ranks >= limit, -torch.inf)
    normaliser = torch.where(
        limit <= width,
        inside.logsumexp(-1, keepdim=True),
        log_sum_exp(scaled)[:, None].double(),
    )
    mass = (inside - normaliser).exp()
    cumulative = mass.cumsum(-1)
    # Where the limit equals the width, tokens outside may be as likely as the last one inside.
    complete = (limit < width)[:, 0] | (width == vocabulary)
    nucleus = mass.masked_fill(cumulative - mass >= top_p[:, None], 0.0)
    least = kept[:, :1] + min_p[:, None].log()
    nucleus = nucleus.masked_fill(kept < least, 0.0)
    inner = nucleus.cumsum(-1)
    drawn = (inner <= uniforms[:, None] * inner[:, -1:]).sum(-1).clamp(max=width - 1)
    reached = (cumulative[:, -1] >= top_p) & (top_p < 1) & (limit[:, 0] >= vocabulary)
    others_dropped = (kept < least)[:, -1:] & ((limit <= width) | (limit >= vocabulary))
    return order.gather(1, drawn[:, None])[:, 0], complete | reached | others_dropped[:, 0]


def sample_full(scaled: Tensor, uniforms: Tensor) -> Tensor:
    """Sample from the whole vocabulary, in the order of the ids: (B,).

    In two stages, first the chunk of the vocabulary, then the token in it, without a sort. No
    operation branches on a value.

    Args:
        scaled: (B, V) float32, logits divided by the temperature.
        uniforms: (B,) float64 in [0, 1).
    """
    rows = torch.arange(len(scaled), device=scaled.device)
    chunks = split_vocabulary(scaled)
    sums = chunk_log_sum_exp(chunks).double()
    mass = (sums - sums.amax(-1, keepdim=True)).exp()
    cumulative = mass.cumsum(-1)
    goal = uniforms * cumulative[:, -1]
    chunk = _first_above(cumulative, goal)
    within = (chunks[rows, chunk].double() - sums[rows, chunk, None]).exp().cumsum(-1)
    share = (goal - cumulative[rows, chunk] + mass[rows, chunk]) / mass[rows, chunk]
    return chunk * chunks.shape[2] + _first_above(within, share * within[:, -1])


def _first_above(cumulative: Tensor, goal: Tensor) -> Tensor:
    """Return the index of the first cumulative sum above each goal: (B, N), (B,) → (B,)."""
    return (cumulative <= goal[:, None]).sum(-1).clamp(max=cumulative.shape[1] - 1)


def rejection_sample(
    bounds: Tensor,
    exact_logit: Callable[[int], float],
    all_logits: Callable[[], Tensor],
    uniform: float,
    temperature: float,
) -> int:
    """Sample from the whole vocabulary with upper bounds of the logits, by rejection sampling.

    The distribution is that of the exact logits. A token is drawn by the bounds and accepted with
    probability exp((logit − bound) / temperature); else another is drawn (von Neumann's rejection
    sampling). After `MAX_REJECTIONS`, all logits are computed.

    Args:
        bounds: (1, V) float32, upper bounds of the logits.
        exact_logit: computes the logit of one token.
        all_logits: computes all logits, (1, V) float32, which is slow.
        uniform: in [0, 1); all random numbers used here follow from it.
        temperature: above 0.
    """
    scaled, draws = bounds / temperature, random.Random(uniform)
    for _ in range(MAX_REJECTIONS):
        id = _sample_one(scaled, uniform)
        exact, bound = exact_logit(id) / temperature, float(scaled[0, id])
        if draws.random() < math.exp(min(0.0, exact - bound)):
            return id
        scaled[0, id] = exact  # so that no token is rejected twice
        uniform = draws.random()
    return _sample_one(all_logits() / temperature, uniform)


def _sample_one(scaled: Tensor, uniform: float) -> int:
    return int(sample_full(scaled, scaled.new_tensor([uniform], dtype=torch.float64)))
