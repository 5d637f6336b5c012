"""RMS norms in a few operations.

transformers writes a norm as ten, and a step of a small model has six norms in each layer. For
narrow states, which every operation would round, one does it all: x and −x side by side have mean
0, so that torch's layer norm of the pair is x's RMS norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.module import HooklessModule


class RmsNorm(HooklessModule):
    """x / rms(x) · weight, over the last dimension."""

    pair: Tensor
    """(2 · D,) float32: the weight, and what is cut off again."""
    factor: Tensor
    """(D,) float32: the weight times √D, for x over its length."""
    least: Tensor
    """() float32: what keeps a length from 0."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        """Take the factors, (D,), and what is added to the mean square."""
        super().__init__()
        self.size = weight.shape[0]
        self.eps = eps
        held = {
            "pair": torch.cat([weight, weight]),
            "factor": weight * self.size**0.5,
            "least": torch.tensor((self.size * eps) ** 0.5, device=weight.device),
        }
        for name, tensor in held.items():
            self.register_buffer(name, tensor.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        if x.dtype == torch.float32:
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self.least)
            return x.div(length).mul_(self.factor)
        both = torch.cat([x, -x], -1)
        normed = torch.layer_norm(both, self.pair.shape, self.pair, None, self.eps)
        return normed[..., : self.size]


@torch.inference_mode()
def replace_norms(model: nn.Module) -> None:
    """Replace RMS norms, in place; a norm that computes something else stays as it is."""
    for name, norm in list(model.named_modules()):
        if not type(norm).__name__.endswith("RMSNorm"):
            continue
        if found := _like(norm):
            model.set_submodule(name, found)


def _like(norm: Any) -> RmsNorm | None:
    """Return the norm that computes the same: its weight is the factor, or one less than it."""
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
    if eps is None:
        return None
    weight = norm.weight.detach().float()
    probe = torch.linspace(-3, 2, 2 * weight.shape[0], device=weight.device).view(2, -1)
    for factors in (weight, 1 + weight):
        found, expected = RmsNorm(factors, eps), norm(probe)
        narrow = found(probe.bfloat16()).float()  # another branch of it
        if torch.allclose(found(probe), expected, rtol=1e-5, atol=1e-5) and torch.allclose(
            narrow, expected, rtol=0.02, atol=0.02
        ):
            return found
    return None
