"""Logits → ids.

Pure; the draw comes in as a uniform number, so that a seed decides the text whatever else is in
the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.types import Sampling

NARROW = 4096
"""Candidates that are sorted first; a nucleus seldom holds more."""
_ROWS = 4
"""Rows that are picked for at a time, so that what it takes is small."""


def pick(
    logits: Tensor, uniforms: Sequence[float], samplings: Sequence[Sampling]
) -> tuple[Tensor, Tensor]:
    """Choose the next token of each row, by the row's own settings.

    Args:
        logits: (B, V), any float dtype.
        uniforms: B numbers in [0, 1): where in the kept mass each row draws. Greedy ignores it.
        samplings: B settings; temperature 0 is greedy.

    Returns:
        ids (B,) int64, and their log-probabilities (B,) float32 under the untouched model, in nats.
    """
    found = [
        _pick(logits[n : n + _ROWS].float(), uniforms[n : n + _ROWS], samplings[n : n + _ROWS])
        for n in range(0, len(logits), _ROWS)
    ]
    ids, logprobs = zip(*found, strict=True)
    return torch.cat(ids), torch.cat(logprobs)


def _pick(
    logits: Tensor, uniforms: Sequence[float], samplings: Sequence[Sampling]
) -> tuple[Tensor, Tensor]:
    ids = likeliest(logits)
    for row, sampling in enumerate(samplings):
        if sampling.temperature:
            # Row by row: a row's sums are the same to the bit in any company.
            settings = knobs([sampling], logits.device)
            uniform = logits.new_tensor([uniforms[row]], dtype=torch.float64)
            drawn, sure = draw(logits[row : row + 1], uniform, *settings)
            if not sure:
                drawn, _ = draw(logits[row : row + 1], uniform, *settings, width=logits.shape[1])
            ids[row] = drawn[0]
    return ids, logprobs(logits, ids)


def likeliest(logits: Tensor) -> Tensor:
    """Return the id of each row's largest logit, the lowest one of equals: (B, V) → (B,).

    In two stages, for torch's argmax takes five times as long as its maximum.
    """
    rows, vocabulary = logits.shape
    stages = next((n for n in (64, 32, 16, 8) if vocabulary % n == 0), 1)
    parts = logits.view(rows, stages, -1)
    part = parts.amax(-1).argmax(-1)
    within = parts[torch.arange(rows, device=logits.device), part].argmax(-1)
    return part * parts.shape[2] + within


def logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of one id in each row: (B, V), (B,) → (B,), in nats."""
    return logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]


def knobs(
    samplings: Sequence[Sampling], device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return temperature, top-k and top-p of each row, (B,) each; greedy has temperature 1."""
    return (
        torch.tensor([s.temperature or 1.0 for s in samplings], device=device),
        torch.tensor([s.top_k for s in samplings], device=device),
        torch.tensor([s.top_p for s in samplings], dtype=torch.float64, device=device),
    )


def draw(
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
    kept, order = scaled.topk(width)
    limit = torch.where(top_k > 0, top_k, vocabulary)[:, None]
    ranks = torch.arange(width, device=logits.device)
    inside = kept.double().masked_fill(ranks >= limit, -torch.inf)
    whole = torch.where(
        limit <= width,
        inside.logsumexp(-1, keepdim=True),
        scaled.double().logsumexp(-1, keepdim=True),
    )
    mass = (inside - whole).exp()
    reach = mass.cumsum(-1)
    complete = (limit <= width)[:, 0] | (width == vocabulary)
    nucleus = mass.masked_fill(reach - mass >= top_p[:, None], 0.0)
    inner = nucleus.cumsum(-1)
    # Nothing is cut: the total is 1, and the tail matters only where the draw falls into it.
    uncut = ~complete & (top_p >= 1.0) & (limit[:, 0] >= vocabulary)
    goal = uniforms * torch.where(uncut, 1.0, inner[:, -1])
    drawn = (inner <= goal[:, None]).sum(-1).clamp(max=width - 1)
    crossed = (reach[:, -1] >= top_p) & (limit[:, 0] >= vocabulary)
    sure = complete | torch.where(uncut, goal < inner[:, -1], crossed)
    return order.gather(1, drawn[:, None])[:, 0], sure
