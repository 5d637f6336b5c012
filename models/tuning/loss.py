"""The loss of completions, computed without holding all logits at once.

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
    """Sum of -log softmax(hidden @ weight.T)[target]; the head's weight takes no gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradients = []
        chunks = zip(torch.split(hidden, CHUNK), torch.split(targets, CHUNK), strict=True)
        for part, gold in chunks:
            logits = torch.nn.functional.linear(part, weight).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            total += (normaliser - logits.gather(1, gold[:, None])).sum()
            # The gradient with respect to the logits is softmax - one_hot. It is computed in place
            # in the forward pass, so that no logits outlive their chunk.
            slope = logits.sub_(normaliser).exp_()
            slope[torch.arange(len(gold)), gold] -= 1
            gradients.append(slope.to(weight.dtype) @ weight)
        ctx.save_for_backward(torch.cat(gradients))
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None


def completion_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of the supervised positions.

    Args:
        hidden: (N, D) last hidden states at the supervised positions, in the head's dtype.
        weight: (V, D) output head, frozen.
        targets: (N,) int64, the token id that each position is to predict.

    Returns:
        () float32, in nats: the sum over N of -log p(target).
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss
