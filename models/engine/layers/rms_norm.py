"""RMS norms in a few operations.

transformers writes a norm as ten operations, and a step of a small model has six norms in each
layer. For bf16 and float16 states one operation does it all: x and −x side by side have mean 0, so
that torch's layer norm of the pair is x's RMS norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.module import HooklessModule


class RmsNorm(HooklessModule):
    """x / rms(x) · weight, over the last dimension."""

    weight_pair: Tensor
    """(2 · D,) float32: the weight twice, for x and for −x; the half of −x is discarded."""
    scaled_weight: Tensor
    """(D,) float32: the weight times √D, for x divided by its L2 norm."""
    min_norm: Tensor
    """() float32: √(D · eps), which keeps an L2 norm from being 0."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        """Hold the weight, (D,), and `eps`, which is added to the mean square."""
        super().__init__()
        self.size = weight.shape[0]
        self.eps = eps
        min_norm = torch.tensor((self.size * eps) ** 0.5, device=weight.device)
        for name, tensor in (
            ("weight_pair", torch.cat([weight, weight])),
            ("scaled_weight", weight * self.size**0.5),
            ("min_norm", min_norm),
        ):
            self.register_buffer(name, tensor.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        if x.dtype == torch.float32:
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self.min_norm)
            return x.div(norm).mul_(self.scaled_weight)
        pair = torch.cat([x, -x], -1)
        normed = torch.layer_norm(pair, self.weight_pair.shape, self.weight_pair, None, self.eps)
        return normed[..., : self.size]


@torch.inference_mode()
def replace_norms(model: nn.Module) -> None:
    """Replace RMS norms, in place; a norm that computes something else stays as it is."""
    for path, norm in list(model.named_modules()):
        if not type(norm).__name__.endswith("RMSNorm"):
            continue
        if equivalent := _equivalent(norm):
            model.set_submodule(path, equivalent)


def _equivalent(norm: Any) -> RmsNorm | None:
    """Return an `RmsNorm` that computes the same on a probe, or None.

    Some models store the weight, others the weight minus one.
    """
    eps = getattr(norm, "eps", None) or getattr(norm, "variance_epsilon", None)
    if eps is None:
        return None
    weight = norm.weight.detach().float()
    probe = torch.linspace(-3, 2, 2 * weight.shape[0], device=weight.device).view(2, -1)
    expected = norm(probe)
    for factors in (weight, 1 + weight):
        candidate = RmsNorm(factors, eps)
        in_bf16 = candidate(probe.bfloat16()).float()  # the other branch of `forward`
        if torch.allclose(candidate(probe), expected, rtol=1e-5, atol=1e-5) and torch.allclose(
            in_bf16, expected, rtol=0.02, atol=0.02
        ):
            return candidate
    return None
