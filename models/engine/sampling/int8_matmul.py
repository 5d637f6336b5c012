"""Approximate matmul with an 8-bit copy of a matrix on x86, by FBGEMM.

Used only to find candidates. The states are quantized to 7 bits, since FBGEMM's kernel for plain
AVX2 adds two products in 16 bits. Each row is quantized by its own absmax, so that its result does
not depend on the rest of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.engine.layers.q8_0 import Q8Matrix, row_chunks

_LEVELS = 63
"""Quantization levels of a state on each side of zero."""
_CHUNK_ROWS = 32_768
"""Rows of the weight in one matmul, which bounds the memory that a matmul needs."""
_DEVIATIONS = 8
"""Standard deviations of the quantization error that the error bound spans."""
_ZERO_ROW_SCALE = torch.finfo(torch.float32).tiny
"""Scale used for an all-zero row, whose largest absolute value would be 0."""


class Int8Rows(NamedTuple):
    """The rows of a matrix in 8 bits, each by its own scale, before they are packed."""

    codes: Tensor
    """(out, in) int8."""
    scales: Tensor
    """(out,) float32."""
    error_norms: Tensor
    """(out,) float32: L2 norm of each row's quantization error."""
    row_norms: Tensor
    """(out,) float32: L2 norm of each row."""


def quantize_rows(weight: Tensor | Q8Matrix) -> Int8Rows:
    """Quantize (out, in) weights, each row by its own scale."""
    chunks = map(_quantized, row_chunks(weight, _CHUNK_ROWS))
    return Int8Rows(*map(torch.cat, zip(*chunks, strict=True)))


class Int8Matrix:
    """An 8-bit copy of a weight matrix, for approximate matmuls."""

    def __init__(self, rows: Int8Rows) -> None:
        """Pack quantized rows for the kernel; packing does not hold the GIL."""
        zeros = torch.zeros(len(rows.codes), dtype=torch.int64)
        parts = [
            torch._make_per_channel_quantized_tensor(codes, scales, zeros[: len(codes)], 0)
            for codes, scales in zip(
                torch.split(rows.codes, _CHUNK_ROWS),
                torch.split(rows.scales, _CHUNK_ROWS),
                strict=True,
            )
        ]
        self._chunks = [torch.ops.quantized.linear_prepack(part, None) for part in parts]
        self._error_norms, self._row_norms = rows.error_norms, rows.row_norms
        self.read_bytes = rows.codes.numel() + 12 * len(rows.codes)
        """Bytes that a matmul reads."""
        self.nbytes = self.read_bytes + 8 * len(rows.codes)

    def multiply(self, states: Tensor, out: Tensor) -> None:
        """Write the product with (B, in) states into `out`, (B, out) float32."""
        levels, unit = _in_levels(states)
        for columns, chunk in zip(torch.split(out, _CHUNK_ROWS, 1), self._chunks, strict=True):
            product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default(
                levels, 1.0, _LEVELS + 1, chunk
            )
            torch.mul(product, unit, out=columns)

    def error_bound(self, states: Tensor) -> Tensor:
        """Return an error bound of the product with (B, in) states: (B, out) float32.

        It is eight standard deviations of the quantization error, whose parts are taken as
        independent. A strict bound would be up to √in / 8 times as large. The gate checks that no
        logit of a fixed text exceeds this one.
        """
        levels, unit = _in_levels(states)
        rounded = levels.round()
        length, error = (
            (part * unit).norm(dim=1, keepdim=True) for part in (rounded, levels - rounded)
        )
        deviation = torch.hypot(length * self._error_norms, error * self._row_norms)
        return deviation.mul_(_DEVIATIONS / levels.shape[1] ** 0.5)


def _in_levels(states: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B, in) states in units of a quantization level, and each row's unit, (B, 1)."""
    values = states.float()
    unit = values.abs().amax(-1, keepdim=True).clamp_(min=_ZERO_ROW_SCALE).div_(_LEVELS)
    return values / unit, unit


def _quantized(weight: Tensor) -> Int8Rows:
    values = weight.detach().float()
    scales = (values.abs().amax(1) / 127).clamp_(min=_ZERO_ROW_SCALE)
    zeros = torch.zeros(len(values), dtype=torch.int64)
    quantized = torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)
    error = (values - quantized.dequantize()).norm(dim=1)
    return Int8Rows(quantized.int_repr(), scales, error, values.norm(dim=1))
