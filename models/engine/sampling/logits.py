"""Reductions of logits: the most likely tokens, and log-probabilities. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def argmax(logits: Tensor) -> Tensor:
    """Return the id of each row's largest logit, the lowest id among equals: (B, V) → (B,).

    In two stages, since torch's argmax takes five times as long as its maximum.
    """
    chunks = split_vocabulary(logits)
    chunk = chunks.amax(-1).argmax(-1)
    within = chunks[torch.arange(len(logits), device=logits.device), chunk].argmax(-1)
    return chunk * chunks.shape[2] + within


def split_vocabulary(logits: Tensor) -> Tensor:
    """(B, V) → (B, chunks, V / chunks); one chunk, where the vocabulary cannot be split evenly."""
    rows, vocabulary = logits.shape
    return logits.view(rows, next((n for n in (64, 32, 16, 8) if vocabulary % n == 0), 1), -1)


def top_ids(logits: Tensor, count: int) -> Tensor:
    """Return the ids of each row's largest logits, in no order: (B, V) → (B, count).

    On a CPU in two stages: the largest logits are in the chunks with the largest maxima.
    """
    rows, vocabulary = logits.shape
    if logits.device.type != "cpu":
        return logits.topk(count, sorted=False).indices
    size = next((n for n in (64, 32, 16, 8) if vocabulary % n == 0 and vocabulary // n > count), 1)
    if size == 1:
        return logits.topk(count, sorted=False).indices
    chunks = logits.view(rows, -1, size)
    best = chunks.amax(-1).topk(count, sorted=False).indices
    candidates = chunks.gather(1, best[:, :, None].expand(-1, -1, size)).flatten(1)
    places = candidates.topk(count, sorted=False).indices
    return best.gather(1, places // size) * size + places % size


def logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of one id in each row: (B, V), (B,) → (B,), in nats."""
    return logits.gather(1, ids[:, None])[:, 0] - log_sum_exp(logits)


def log_sum_exp(logits: Tensor) -> Tensor:
    """Return the log of the sum of each row's exponentials: (B, V) → (B,).

    In chunks, since shorter sums lose fewer digits.
    """
    return chunk_log_sum_exp(split_vocabulary(logits)).logsumexp(-1)


def chunk_log_sum_exp(chunks: Tensor) -> Tensor:
    """Return the log of the sum of each chunk's exponentials: (B, chunks, N) → (B, chunks)."""
    top = chunks.amax(-1)
    return torch.where(top.isneginf(), top, top - chunks.log_softmax(-1).amax(-1))
