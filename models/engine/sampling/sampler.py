"""Logits → ids.

Pure; the draw comes in as a uniform number, so that a seed decides the text whatever else is in
the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.engine.sampling.inverse_cdf import (
    FEW,
    NARROW,
    sample_full,
    sample_truncated,
    sampling_tensors,
)
from models.engine.sampling.logits import likeliest, logprobs
from models.types import Sampling

_DEEP = 12.0
"""Nats below the likeliest token, within which a nucleus nearly always lies."""
_ROWS = 4
"""Rows that are picked for at a time, so that what it takes is small."""


def sample_tokens(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the next token of each row, by the row's own settings.

    Args:
        logits: (B, V), any float dtype.
        uniforms: B numbers in [0, 1): where in the kept mass each row draws. Greedy ignores it.
        samplings: B settings; temperature 0 is greedy.
        drawn: rows whose token is drawn already.

    Returns:
        ids (B,) int64, and their log-probabilities (B,) float32 under the untouched model, in nats.
    """
    found = [
        _pick(
            logits[n : n + _ROWS].float(),
            uniforms[n : n + _ROWS],
            samplings[n : n + _ROWS],
            {row - n: id for row, id in (drawn or {}).items()},
        )
        for n in range(0, len(logits), _ROWS)
    ]
    ids, logprobs = zip(*found, strict=True)
    return torch.cat(ids), torch.cat(logprobs)


def _pick(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int],
) -> tuple[Tensor, Tensor]:
    ids = likeliest(logits)
    for row, sampling in enumerate(samplings):
        if row in drawn:
            ids[row] = drawn[row]
        elif sampling.temperature:  # row by row: its sums are the same to the bit in any company
            ids[row] = _drawn(logits[row : row + 1], uniforms[row], sampling)
    return ids, logprobs(logits, ids)


def _drawn(logits: Tensor, uniform: float, sampling: Sampling) -> Tensor:
    settings = sampling_tensors([sampling], logits.device)
    where = logits.new_tensor([uniform], dtype=torch.float64)
    if sampling.draws_from_all:
        return sample_full(logits / settings[0], where)[0]
    for width in (FEW, NARROW, logits.shape[1]):
        ids, sure = sample_truncated(logits, where, *settings, width=width)
        if sure:
            break
    return ids[0]


def truncated_probabilities(
    top: Tensor, logits: Tensor, normaliser: Tensor, sampling: Sampling
) -> Tensor:
    """Return the probabilities of each row's likeliest tokens in `sample_truncated`: (B, K).

    Args:
        top: (B, K) float32, the largest logits, in descending order.
        logits: (B, V) float32, all.
        normaliser: (B,), log of the sum of all exponentials.
        sampling: temperature 0 gives the likeliest token everything.
    """
    if not sampling.temperature:
        ranks = torch.arange(top.shape[1], device=top.device)
        return (ranks == 0).to(top.dtype).expand_as(top)
    if sampling.temperature == 1:  # dividing a whole vocabulary takes as long as it sounds
        scaled, own, whole = logits, top, normaliser.clone()
    else:
        scaled, own = logits / sampling.temperature, top / sampling.temperature
        whole = scaled.logsumexp(-1)
    least = torch.full_like(whole, -torch.inf)
    top_k = sampling.top_k if sampling.top_k < logits.shape[1] else 0
    if top_k or sampling.top_p < 1:
        for row, one in enumerate(scaled):
            kept = _kept(own[row], whole[row], top_k, sampling.top_p)
            deep = one.amax() - _DEEP  # what is far below the best is seldom kept
            for some in () if kept is not None else (one[one >= deep], one):
                kept = _kept(some.sort(descending=True).values, whole[row], top_k, sampling.top_p)
                if kept is not None:
                    break
            if kept is not None:
                whole[row], least[row] = kept.logsumexp(-1), kept[-1]
    return (own - whole[:, None]).exp().masked_fill(own < least[:, None], 0.0)


def _kept(largest: Tensor, whole: Tensor, top_k: int, top_p: float) -> Tensor | None:
    """Return the logits that top-k and then top-p keep; None if there may be more than are given.

    Args:
        largest: (K,), the largest logits over the temperature, in descending order.
        whole: log of the mass of all tokens.
        top_k: 0 keeps all.
        top_p: mass of the nucleus.
    """
    if top_k:
        if len(largest) < top_k:
            return None
        largest = largest[:top_k]
        whole = largest.logsumexp(-1)
    mass = (largest - whole).double().exp()
    before = mass.cumsum(-1) - mass
    if not top_k and before[-1] + mass[-1] < top_p:
        return None
    return largest[before < top_p]
