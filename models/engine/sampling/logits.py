"""What is read off logits: the likeliest tokens, and log-probabilities. Pure."""

from __future__ import annotations

import torch
from torch import Tensor


def likeliest(logits: Tensor) -> Tensor:
    """Return the id of each row's largest logit, the lowest one of equals: (B, V) → (B,).

    In two stages, for torch's argmax takes five times as long as its maximum.
    """
    parts = split_vocabulary(logits)
    part = parts.amax(-1).argmax(-1)
    within = parts[torch.arange(len(logits), device=logits.device), part].argmax(-1)
    return part * parts.shape[2] + within


def split_vocabulary(logits: Tensor) -> Tensor:
    """(B, V) → (B, parts, V / parts); one part, where the vocabulary cannot be parted."""
    rows, vocabulary = logits.shape
    return logits.view(rows, next((n for n in (64, 32, 16, 8) if vocabulary % n == 0), 1), -1)


def top_ids(logits: Tensor, count: int) -> Tensor:
    """Return the ids of each row's largest logits, in no order: (B, V) → (B, count).

    On a CPU in two stages: what is largest stands in the parts whose own largest are largest.
    """
    rows, vocabulary = logits.shape
    if logits.device.type != "cpu":
        return logits.topk(count, sorted=False).indices
    part = next((n for n in (64, 32, 16, 8) if vocabulary % n == 0 and vocabulary // n > count), 1)
    if part == 1:
        return logits.topk(count, sorted=False).indices
    parts = logits.view(rows, -1, part)
    best = parts.amax(-1).topk(count, sorted=False).indices
    within = parts.gather(1, best[:, :, None].expand(-1, -1, part)).flatten(1)
    found = within.topk(count, sorted=False).indices
    return best.gather(1, found // part) * part + found % part


def logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of one id in each row: (B, V), (B,) → (B,), in nats."""
    return logits.gather(1, ids[:, None])[:, 0] - log_sum_exp(logits)


def log_sum_exp(logits: Tensor) -> Tensor:
    """Return the log of the sum of each row's exponentials: (B, V) → (B,).

    In parts, for shorter sums lose fewer digits.
    """
    return chunk_log_sum_exp(split_vocabulary(logits)).logsumexp(-1)


def chunk_log_sum_exp(parts: Tensor) -> Tensor:
    """Return the log of the sum of each part's exponentials: (B, parts, N) → (B, parts)."""
    top = parts.amax(-1)
    return torch.where(top.isneginf(), top, top - parts.log_softmax(-1).amax(-1))
