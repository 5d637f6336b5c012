"""The losses of tokens, computed without holding all logits at once.

With a vocabulary of 262,144 the output head costs more than the rest of the network: the logits of
16 rows of 256 tokens would be 4 GB in float32. Here only supervised positions get logits, `CHUNK`
of them at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Positions whose logits are held at the same time."""


class _HeadLoss(torch.autograd.Function):
    """-log softmax(hidden @ weight.T)[target] of each position; the head takes no gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        losses, gradients = [], []
        chunks = zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True)
        for part, gold in chunks:
            logits = torch.nn.functional.linear(part, weight)
            logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
            losses.append(-logprobs.gather(1, gold[:, None])[:, 0])
            # The gradient with respect to the logits is softmax - one_hot. It is computed in place
            # in the forward pass, so that no logits outlive their chunk.
            slope = logprobs.exp_()
            slope[torch.arange(len(gold)), gold] -= 1
            gradients.append(slope.to(weight.dtype) @ weight)
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0][:, None].to(gradient.dtype), None, None


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each supervised position.

    Args:
        hidden: (N, D) last hidden states at the supervised positions, in the head's dtype.
        weight: (V, D) output head, frozen.
        targets: (N,) int64, the token id that each position is to predict.

    Returns:
        (N,) float32, in nats: -log p(target).
    """
    losses: Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return losses
