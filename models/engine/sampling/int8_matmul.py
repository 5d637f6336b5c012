"""Products with weights of 8 bits on x86, by FBGEMM.

Only to find candidates by: the states are rounded, too, to 7 bits, for its kernel for plain AVX2
adds two products in 16 bits. Each row is rounded by its own largest number, so that its company
changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.engine.layers.q8_0 import Q8Matrix, row_chunks

_LEVELS = 63
"""Steps of a state on each side of zero."""
_PART = 32_768
"""Rows of the weight in one product: what it makes, and what it takes to make, stays small."""
_DEVIATIONS = 8
"""Of what rounding does to a product: beyond so many there is none, but by a bad chance."""
_TINY = torch.finfo(torch.float32).tiny
"""Of what is all zeros, the size."""


class Int8Matrix:
    """A matrix that states are multiplied by, roughly."""

    def __init__(self, weight: Tensor | Q8Matrix) -> None:
        """Take (out, in) weights; each row of them is rounded by a scale of its own."""
        self._parts, errors, lengths = zip(*map(_packed, row_chunks(weight, _PART)), strict=True)
        self._error, self._length = torch.cat(errors), torch.cat(lengths)
        """(out,) each: the length of each row's rounding error, and of the row."""
        self.read_bytes = weight.shape.numel() + 12 * len(weight)
        """What a product reads."""
        self.nbytes = self.read_bytes + 8 * len(weight)

    def multiply(self, states: Tensor, out: Tensor) -> None:
        """Write the product with (B, in) states into `out`, (B, out) float32."""
        steps, unit = _in_steps(states)
        for columns, part in zip(torch.split(out, _PART, 1), self._parts, strict=True):
            found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default(
                steps, 1.0, _LEVELS + 1, part
            )
            torch.mul(found, unit, out=columns)

    def off(self, states: Tensor) -> Tensor:
        """Return how far the product with (B, in) states may be off: (B, out) float32.

        Taken as chance, each number for itself: eight standard deviations. A bound that nothing
        can pass would be up to √in / 8 times as large. That no logit of a fixed text passes this
        one is measured when the head is chosen.
        """
        steps, unit = _in_steps(states)
        rounded = steps.round()
        lengths, errors = (
            (one * unit).norm(dim=1, keepdim=True) for one in (rounded, steps - rounded)
        )
        deviation = torch.hypot(lengths * self._error, errors * self._length)
        return deviation.mul_(_DEVIATIONS / steps.shape[1] ** 0.5)


def _in_steps(states: Tensor) -> tuple[Tensor, Tensor]:
    """(B, in) → the same in each row's own unit, and the units: (B, in), (B, 1) float32."""
    wide = states.float()
    unit = wide.abs().amax(-1, keepdim=True).clamp_(min=_TINY).div_(_LEVELS)
    return wide / unit, unit


def _packed(weight: Tensor) -> tuple[Any, Tensor, Tensor]:
    wide = weight.detach().float()
    scales = (wide.abs().amax(1) / 127).clamp_(min=_TINY)
    zeros = torch.zeros(len(wide), dtype=torch.int64)
    rounded = torch.quantize_per_channel(wide, scales, zeros, 0, torch.qint8)
    error = (wide - rounded.dequantize()).norm(dim=1)
    return torch.ops.quantized.linear_prepack(rounded, None), error, wide.norm(dim=1)
