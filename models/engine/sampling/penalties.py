"""Penalties: logits of tokens that were said already, made smaller or larger. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.types import Sampling


@dataclass(frozen=True, slots=True)
class SeenTokens:
    """The different tokens of a prompt and its answer so far."""

    ids: Tensor
    """(N,) int64."""
    counts: Tensor
    """(N,) float32: how often each is in the answer; 0 for those of the prompt alone."""


def penalised(logits: Tensor, seen: SeenTokens, sampling: Sampling) -> Tensor:
    """Return the logits of the seen tokens under the settings' penalties: (N,) → (N,) float32.

    The repetition penalty (Keskar et al. 1909.05858, §4.1) divides a positive logit and multiplies
    a negative one, for tokens of prompt and answer. The presence and the frequency penalty of
    OpenAI's API are subtracted for tokens of the answer, once and for each time they are in it.
    """
    values, penalty = logits.float(), sampling.repetition_penalty
    values = torch.where(values > 0, values / penalty, values * penalty)
    counts = seen.counts.to(values.device)
    return values - sampling.presence_penalty * (counts > 0) - sampling.frequency_penalty * counts
