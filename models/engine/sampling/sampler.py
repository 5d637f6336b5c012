"""Logits → the next token id of each row, by the row's own settings.

Pure functions; random numbers are arguments, so that a seed determines a text independently of the
rest of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.engine.sampling.inverse_cdf import (
    NARROW,
    WIDE,
    sample_full,
    sample_truncated,
    sampling_tensors,
)
from models.engine.sampling.logits import argmax, logprobs
from models.engine.sampling.penalties import SeenTokens, penalised
from models.types import Sampling

_NUCLEUS_DEPTH = 12.0
"""Distance in nats from the largest logit within which a nucleus nearly always lies."""
_ROWS = 4
"""Rows that are sampled at a time, so that little memory is needed."""


def sample_tokens(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int] | None = None,
    seen: Mapping[int, SeenTokens] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the next token of each row and its log-probability.

    Args:
        logits: (B, V), any float dtype.
        uniforms: B random numbers in [0, 1); greedy rows ignore theirs.
        samplings: B settings; temperature 0 is greedy.
        drawn: ids of rows whose token is sampled already, by the row's index.
        seen: the tokens said already, of rows with penalties, by the row's index.

    Returns:
        ids (B,) int64, and their log-probabilities (B,) float32 in nats, before penalties,
        temperature and truncation.
    """
    parts = [
        _sample_rows(
            logits[n : n + _ROWS].float(),
            uniforms[n : n + _ROWS],
            samplings[n : n + _ROWS],
            {row - n: id for row, id in (drawn or {}).items()},
            {row - n: tokens for row, tokens in (seen or {}).items()},
        )
        for n in range(0, len(logits), _ROWS)
    ]
    ids, log_probabilities = zip(*parts, strict=True)
    return torch.cat(ids), torch.cat(log_probabilities)


def _sample_rows(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int],
    seen: Mapping[int, SeenTokens],
) -> tuple[Tensor, Tensor]:
    ids = argmax(logits)
    for row, sampling in enumerate(samplings):
        own = logits[row : row + 1]
        if row in drawn:
            ids[row] = drawn[row]
            continue
        if row in seen:
            own = own.clone()
            own[0, seen[row].ids] = penalised(own[0, seen[row].ids], seen[row], sampling)
        if sampling.temperature:  # row by row: its sums are the same to the bit in any batch
            ids[row] = _sample_row(own, uniforms[row], sampling)
        elif row in seen:
            ids[row] = argmax(own)[0]
    return ids, logprobs(logits, ids)


def _sample_row(logits: Tensor, uniform: float, sampling: Sampling) -> Tensor:
    settings = sampling_tensors([sampling], logits.device)
    uniforms = logits.new_tensor([uniform], dtype=torch.float64)
    if sampling.is_untruncated:
        return sample_full(logits / settings[0], uniforms)[0]
    for width in (NARROW, WIDE, logits.shape[1]):
        ids, sure = sample_truncated(logits, uniforms, *settings, width=width)
        if sure:
            break
    return ids[0]


def truncated_probabilities(
    top: Tensor, logits: Tensor, normaliser: Tensor, sampling: Sampling
) -> Tensor:
    """Return the probabilities of each row's most likely tokens under the sampler: (B, K).

    Args:
        top: (B, K) float32, the largest logits, in descending order.
        logits: (B, V) float32, all.
        normaliser: (B,), log of the sum of all exponentials.
        sampling: temperature 0 gives the most likely token probability 1.
    """
    if not sampling.temperature:
        ranks = torch.arange(top.shape[1], device=top.device)
        return (ranks == 0).to(top.dtype).expand_as(top)
    if sampling.temperature == 1:  # saves dividing a whole vocabulary, which is slow
        scaled, scaled_top, kept_mass = logits, top, normaliser.clone()
    else:
        scaled, scaled_top = logits / sampling.temperature, top / sampling.temperature
        kept_mass = scaled.logsumexp(-1)
    whole_mass = kept_mass.clone()
    least = torch.full_like(kept_mass, -torch.inf)
    if sampling.min_p:
        least = scaled_top[:, 0] + math.log(sampling.min_p)
        kept_mass = scaled.masked_fill(scaled < least[:, None], -torch.inf).logsumexp(-1)
    top_k = sampling.top_k if sampling.top_k < logits.shape[1] else 0
    if top_k or sampling.top_p < 1:
        for row, values in enumerate(scaled):
            kept = _kept(scaled_top[row], whole_mass[row], top_k, sampling.top_p)
            near = values.amax() - _NUCLEUS_DEPTH  # logits far below the best are seldom kept
            for candidates in () if kept is not None else (values[values >= near], values):
                ordered = candidates.sort(descending=True).values
                kept = _kept(ordered, whole_mass[row], top_k, sampling.top_p)
                if kept is not None:
                    break
            if kept is not None:
                kept = kept[kept >= least[row]]
                kept_mass[row], least[row] = kept.logsumexp(-1), kept[-1]
    probabilities = (scaled_top - kept_mass[:, None]).exp()
    return probabilities.masked_fill(scaled_top < least[:, None], 0.0)


def _kept(largest: Tensor, log_mass: Tensor, top_k: int, top_p: float) -> Tensor | None:
    """Return the logits that top-k and then top-p keep; None if more may be kept than are given.

    Args:
        largest: (K,), the largest logits divided by the temperature, in descending order.
        log_mass: (), log of the sum of the exponentials of the whole vocabulary.
        top_k: 0 keeps all.
        top_p: mass of the nucleus.
    """
    if top_k:
        if len(largest) < top_k:
            return None
        largest = largest[:top_k]
        log_mass = largest.logsumexp(-1)
    mass = (largest - log_mass).double().exp()
    before = mass.cumsum(-1) - mass
    if not top_k and before[-1] + mass[-1] < top_p:
        return None
    return largest[before < top_p]
