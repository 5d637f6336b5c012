"""The loss of tokens, computed without holding all logits at once.

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
    """Sum of -share * log softmax(hidden @ weight.T)[target]; the head takes no gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, shares: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        gradients = []
        parts = (torch.split(tensor, CHUNK) for tensor in (hidden, targets, shares))
        for part, gold, share in zip(*parts, strict=True):
            logits = torch.nn.functional.linear(part, weight).float()
            normaliser = logits.logsumexp(-1, keepdim=True)
            total += ((normaliser - logits.gather(1, gold[:, None]))[:, 0] * share).sum()
            # The gradient with respect to the logits is softmax - one_hot. It is computed in place
            # in the forward pass, so that no logits outlive their chunk.
            slope = logits.sub_(normaliser).exp_()
            slope[torch.arange(len(gold)), gold] -= 1
            slope *= share[:, None]
            gradients.append(slope.to(weight.dtype) @ weight)
        ctx.save_for_backward(torch.cat(gradients))
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None, None


def token_loss(hidden: Tensor, weight: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """Return the weighted sum of the supervised positions' cross-entropies.

    Args:
        hidden: (N, D) last hidden states at the supervised positions, in the head's dtype.
        weight: (V, D) output head, frozen.
        targets: (N,) int64, the token id that each position is to predict.
        shares: (N,) float32, what each position's loss is multiplied with.

    Returns:
        () float32, in nats: the sum over N of -share * log p(target).
    """
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets, shares)  # type: ignore[no-untyped-call]
    return loss
