"""Products with weights of 8 bits on x86, by FBGEMM.

Only to find candidates by: the states are rounded, too, to 7 bits, for its kernel for plain AVX2
adds two products in 16 bits. Each row is rounded by its own largest number, so that its company
changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.engine.blocks import Blocks, parts_of

_LEVELS = 63
"""Steps of a state on each side of zero."""
_PART = 32_768
"""Rows of the weight in one product: what it makes, and what it takes to make, stays small."""
_TINY = torch.finfo(torch.float32).tiny
"""Of what is all zeros, the size."""


class EightBit:
    """A matrix that states are multiplied by, roughly."""

    def __init__(self, weight: Tensor | Blocks) -> None:
        """Take (out, in) weights; each row of them is rounded by a scale of its own."""
        self._parts = [_packed(part) for part in parts_of(weight, _PART)]
        self.nbytes = weight.shape.numel() + 12 * len(weight)

    def multiply(self, states: Tensor, out: Tensor) -> None:
        """Write the product with (B, in) states into `out`, (B, out) float32."""
        wide = states.float()
        unit = wide.abs().amax(-1, keepdim=True).clamp_(min=_TINY).div_(_LEVELS)
        steps = wide / unit
        for columns, part in zip(torch.split(out, _PART, 1), self._parts, strict=True):
            found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default(
                steps, 1.0, _LEVELS + 1, part
            )
            torch.mul(found, unit, out=columns)


def _packed(weight: Tensor) -> Any:
    wide = weight.detach().float()
    scales = (wide.abs().amax(1) / 127).clamp_(min=_TINY)
    zeros = torch.zeros(len(wide), dtype=torch.int64)
    rounded = torch.quantize_per_channel(wide, scales, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(rounded, None)
