"""Products with a matrix that is held, once and for all, in the form that its kernel reads.

Each ordinary product would make that form anew, or, in float32, go to MKL, which reads the matrix
once for every row of a few, and does not favour every maker's processors.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 512
"""Columns that FBGEMM fills a matrix up to a multiple of."""


class PackedMatrix(Protocol):
    """A held matrix, (out, in), with what is added to its products."""

    nbytes: int
    """What it takes, known padding included."""
    read_bytes: int
    """What a product reads of it."""

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        ...


def pack_matrix(weight: Tensor, bias: Tensor | None = None) -> PackedMatrix:
    """Hold (out, in) weights, best as they are multiplied by states of their type on this CPU."""
    weight = weight.detach().contiguous()
    wide = 4 * weight.numel()
    if weight.dtype == torch.float32 and packed_bytes(*weight.shape) < wide and _told(weight):
        return Fp16Matrix(weight, bias)
    return OneDnnMatrix(weight, bias) if has_matmul(weight.dtype) else UnpackedMatrix(weight, bias)


def packed_bytes(rows: int, columns: int) -> int:
    """Return what a matrix of values that float16 tells takes, held for states in float32."""
    narrow = 2 * rows * -(-columns // _BLOCK) * _BLOCK
    wide = 4 * rows * columns
    return min(narrow, wide) if has_fbgemm() else wide


def _told(weight: Tensor) -> bool:
    """Whether float16 tells all of these numbers, to 2⁻²⁵ and to a 512th of the largest."""
    off = (weight.half().float() - weight).abs().max()
    return bool(off <= 2**-25) and bool(off <= 2**-9 * weight.abs().max())


class Fp16Matrix:
    """Held in float16, and multiplied and added up in float32, by FBGEMM.

    For values of bf16, which float16 tells exactly but for those below 2⁻¹⁷, in matrices whose
    columns fill FBGEMM's blocks. A few rows take about half as long as in float32 by oneDNN. Each
    row is the same to the bit in any company.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take (out, in) float32 weights that float16 tells."""
        self.nbytes = packed_bytes(*weight.shape)
        self.read_bytes = 2 * weight.numel()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out).

        FBGEMM takes up to six rows at a time, by a table, and adds in another order where they are
        one or two: such counts are filled up.
        """
        count = x.numel() // x.shape[-1]
        if not (count in (1, 2, 7, 14) or (count > 30 and count % 6 in (1, 2))):
            found: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._packed)
            return found
        rows = functional.pad(x.reshape(count, -1), (0, 0, 0, 3 - count % 3))
        found = torch.ops.quantized.linear_dynamic_fp16.default(rows, self._packed)
        return found[:count].view(*x.shape[:-1], -1)

    def beside(self, more: Tensor) -> Fp16Matrix | None:
        """Return these weights and more columns, (out, more), as one; None if float16 cannot."""
        if not _told(more):
            return None
        weight, bias = torch.ops.quantized.linear_unpack_fp16(self._packed)
        return Fp16Matrix(torch.cat([weight, more], 1), bias)


class UnpackedMatrix:
    """Held as it is."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take (out, in) weights."""
        self.nbytes = self.read_bytes = weight.nbytes
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return functional.linear(x, self._weight, self._bias)


class OneDnnMatrix:
    """Held in its own type, in oneDNN's form, opaque."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take (out, in) weights of a type that oneDNN multiplies."""
        self.nbytes = self.read_bytes = weight.nbytes
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return product(x, self._packed, self._bias)


def has_fbgemm() -> bool:
    """Whether FBGEMM is there: on x86, with AVX2."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def has_matmul(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there, and the processor multiplies this type by itself."""
    if not torch._C._has_mkldnn:
        return False
    narrow = dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return narrow or dtype == torch.float32


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) → (…, out), by (out, in) weights in float32, or in oneDNN's form."""
    if not torch._C._has_mkldnn:
        return functional.linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return found
