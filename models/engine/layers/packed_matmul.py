"""Matmuls with a weight matrix that is packed once, in the layout that its CPU kernel reads.

An ordinary matmul would pack the matrix at every call, or, in float32, call MKL, which for a few
rows reads the matrix once per row, and is not fast on every maker's processors.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models.capabilities import withheld

_FBGEMM_COLUMNS = 512
"""FBGEMM pads the columns of a matrix to a multiple of this number."""


class PackedMatrix(Protocol):
    """A packed (out, in) matrix and its bias; calling it multiplies."""

    nbytes: int
    """Bytes that it takes, padding included."""
    read_bytes: int
    """Bytes of it that a matmul reads."""

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        ...


def pack_matrix(weight: Tensor, bias: Tensor | None = None) -> PackedMatrix:
    """Pack (out, in) weights in the form that this CPU multiplies fastest."""
    weight = weight.detach().contiguous()
    bytes_in_float32 = 4 * weight.numel()
    smaller = packed_bytes(*weight.shape) < bytes_in_float32
    if weight.dtype == torch.float32 and smaller and _fits_float16(weight):
        return Fp16Matrix(weight, bias)
    if has_matmul(weight.dtype):
        return OneDnnMatrix(weight, bias)
    return UnpackedMatrix(weight, bias)


def packed_bytes(rows: int, columns: int) -> int:
    """Return the bytes of a matrix that fits float16, packed for float32 states."""
    in_float16 = 2 * rows * -(-columns // _FBGEMM_COLUMNS) * _FBGEMM_COLUMNS
    in_float32 = 4 * rows * columns
    return min(in_float16, in_float32) if has_fbgemm() else in_float32


def _fits_float16(weight: Tensor) -> bool:
    """Whether float16 rounds by at most 2⁻²⁵ and a 512th of the largest weight."""
    error = (weight.half().float() - weight).abs().max()
    return bool(error <= 2**-25) and bool(error <= 2**-9 * weight.abs().max())


class Fp16Matrix:
    """A matrix in float16, multiplied and summed in float32 by FBGEMM.

    For bf16 values, which float16 holds exactly except those below 2⁻¹⁷, in matrices whose columns
    fill FBGEMM's blocks. A matmul of a few rows takes about half as long as oneDNN's in float32.
    Each row's result is the same to the bit in any batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack (out, in) float32 weights that fit float16."""
        self.nbytes = packed_bytes(*weight.shape)
        self.read_bytes = 2 * weight.numel()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out).

        FBGEMM splits the rows into groups of up to six by a table, and sums groups of one or two in
        another order: row counts that would give such a group are padded.
        """
        count = x.numel() // x.shape[-1]
        if not (count in (1, 2, 7, 14) or (count > 30 and count % 6 in (1, 2))):
            y: Tensor = torch.ops.quantized.linear_dynamic_fp16.default(x, self._packed)
            return y
        rows = functional.pad(x.reshape(count, -1), (0, 0, 0, 3 - count % 3))
        y = torch.ops.quantized.linear_dynamic_fp16.default(rows, self._packed)
        return y[:count].view(*x.shape[:-1], -1)

    def with_columns(self, columns: Tensor) -> Fp16Matrix | None:
        """Return this matrix with more columns, (out, more); None if they do not fit float16."""
        if not _fits_float16(columns):
            return None
        weight, bias = torch.ops.quantized.linear_unpack_fp16(self._packed)
        return Fp16Matrix(torch.cat([weight, columns], 1), bias)


class UnpackedMatrix:
    """An ordinary matrix, for CPUs or dtypes without a packed form."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Hold (out, in) weights."""
        self.nbytes = self.read_bytes = weight.nbytes
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return functional.linear(x, self._weight, self._bias)


class OneDnnMatrix:
    """A matrix in oneDNN's opaque layout, in its original dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack (out, in) weights of a dtype that oneDNN multiplies."""
        self.nbytes = self.read_bytes = weight.nbytes
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return matmul(x, self._packed, self._bias)


def has_fbgemm() -> bool:
    """Whether FBGEMM is available: on x86, with AVX2."""
    return "fbgemm" in torch.backends.quantized.supported_engines and "fbgemm" not in withheld()


@cache
def has_onednn() -> bool:
    """Whether oneDNN is available; if it is withheld, torch's own operations do without it, too."""
    if "onednn" in withheld():
        torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
        return False
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_matmul(dtype: torch.dtype) -> bool:
    """Whether oneDNN is available, and this CPU multiplies the dtype natively."""
    if not has_onednn():
        return False
    native_bf16 = dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return native_bf16 or dtype == torch.float32


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) → (…, out), with (out, in) weights in float32 or in oneDNN's layout."""
    if not has_onednn():
        return functional.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return y
