"""RMS norms as one kernel.

transformers writes a norm as ten operations, and a step of a small model has six norms in each
layer. x and −x side by side have mean 0, so that torch's layer norm of the pair is x's RMS norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.engine.direct import Direct


class RmsNorm(Direct):
    """x / rms(x) · weight, over the last dimension."""

    pair: Tensor
    """(2 · D,) float32: the weight, and what is cut off again."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        """Take the factors, (D,), and what is added to the mean square."""
        super().__init__()
        self.register_buffer("pair", torch.cat([weight, weight]).float(), persistent=False)
        self.size = weight.shape[0]
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        both = torch.cat([x, -x], -1)
        normed = functional.layer_norm(both, self.pair.shape, self.pair, None, self.eps)
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
        found = RmsNorm(factors, eps)
        if torch.allclose(found(probe), norm(probe), rtol=1e-5, atol=1e-5):
            return found
    return None
