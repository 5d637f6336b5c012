"""Products by oneDNN, with the matrix once and for all in the form that it reads.

Each ordinary product would make that form anew, or, in float32, go to MKL, which reads the matrix
once for every row of a few, and does not favour every maker's processors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there, and the processor multiplies this type by itself."""
    if not torch._C._has_mkldnn:
        return False
    narrow = dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return narrow or dtype == torch.float32


def reordered(weight: Tensor) -> Tensor:
    """Return (out, in) weights in oneDNN's form, opaque, for good."""
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return found


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) → (…, out), by (out, in) weights, best in the form that `reordered` returns."""
    if not torch._C._has_mkldnn:
        return functional.linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return found
