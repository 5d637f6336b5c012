"""An embedding, tied to the output head, in the 8-bit format of its GGUF file (Q8_0).

In Q8_0, 32 numbers of a row share a float16 scale, and each is an integer multiple of it. A base's
folder holds those values rounded to bf16, in twice the bytes. Here they are rounded when they are
read. The 8-bit form is used only if all values are then the same, to the bit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from models.engine.layers.module import HooklessModule

_log = logging.getLogger(__name__)
BLOCK_SIZE = 32
"""Numbers that share a scale."""
_CHUNK_ROWS = 2048
"""Rows of the output head that are dequantized at a time, so that they stay in cache."""


class Q8Matrix:
    """A matrix in Q8_0 blocks; indexing it dequantizes rows."""

    def __init__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> None:
        """Hold (rows, columns) int8 codes, (rows, columns / 32) float16 scales, and output dtype.

        Raises:
            ValueError: dtypes or shapes of codes and scales do not match.
        """
        kinds = (codes.dtype, codes.ndim, scales.dtype, scales.ndim)
        if (
            kinds != (torch.int8, 2, torch.float16, 2)
            or scales.shape != (len(codes), codes.shape[1] // BLOCK_SIZE)
            or codes.shape[1] % BLOCK_SIZE
        ):
            raise ValueError(
                f"codes {codes.dtype} {tuple(codes.shape)} and "
                f"scales {scales.dtype} {tuple(scales.shape)}"
            )
        self.codes: Tensor = codes
        self.scales = scales
        self.dtype = dtype
        self.shape, self.device = codes.shape, codes.device
        self.nbytes = codes.nbytes + scales.nbytes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return dequantized rows by their indices: (…) → (…, columns)."""
        codes, scales = self.codes[rows], self.scales[rows].float()
        values: Tensor = codes.view(*scales.shape, BLOCK_SIZE) * scales[..., None]
        return values.to(self.dtype).view(codes.shape)

    def data_ptr(self) -> int:
        """Return the address of the codes, equal for matrices that share their memory."""
        return self.codes.data_ptr()

    def digest(self) -> str:
        """Return a hash over the blocks."""
        total = hashlib.sha256()
        for part in (self.codes, self.scales):
            total.update(part.contiguous().view(torch.uint8).numpy().data)
        return total.hexdigest()

    def chunks(self, rows: int) -> Iterator[Tensor]:
        """Yield the matrix dequantized, `rows` rows at a time; each chunk overwrites the last."""
        values = torch.empty(rows, self.shape[1] // BLOCK_SIZE, BLOCK_SIZE)
        rounded = torch.empty(rows, self.shape[1], dtype=self.dtype)
        for codes, scales in zip(
            torch.split(self.codes, rows), torch.split(self.scales, rows), strict=True
        ):
            chunk = values[: len(codes)]
            chunk.copy_(codes.view(chunk.shape)).mul_(scales.float()[..., None])
            yield rounded[: len(codes)].copy_(chunk.view(codes.shape))


def row_chunks(matrix: Tensor | Q8Matrix, rows: int) -> Iterator[Tensor]:
    """Yield a matrix `rows` rows at a time; a chunk is valid until the next is requested."""
    return iter(torch.split(matrix, rows)) if isinstance(matrix, Tensor) else matrix.chunks(rows)


class Q8Embedding(HooklessModule):
    """An embedding in Q8_0."""

    def __init__(self, weight: Q8Matrix, factor: Tensor | None) -> None:
        """Hold the matrix, and the factor that some models multiply embeddings by."""
        super().__init__()
        self.weight = weight
        self.factor = None if factor is None else factor.to(weight.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d)."""
        states = self.weight[ids]
        return states if self.factor is None else states * self.factor


class Q8Head(HooklessModule):
    """An output head in Q8_0."""

    bias = None

    def __init__(self, weight: Q8Matrix) -> None:
        """Hold the matrix."""
        super().__init__()
        self.weight = weight
        # A parameter, since transformers asks parameters for the model's device.
        self.codes = weight.codes = nn.Parameter(weight.codes, requires_grad=False)
        self.register_buffer("scales", weight.scales, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V)."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        logits = rows.new_empty(len(rows), len(self.weight))
        for columns, chunk in zip(
            torch.split(logits, _CHUNK_ROWS, 1), self.weight.chunks(_CHUNK_ROWS), strict=True
        ):
            columns.copy_(functional.linear(rows, chunk))
        return logits.view(*hidden.shape[:-1], -1)


@torch.inference_mode()
def equal_q8_digest(model: Any, path: Path) -> str:
    """Return a hash over the Q8_0 blocks of a file, if they are equal to a model's embedding.

    It is empty if the embedding is not tied to the output head, or the file is missing, cannot be
    read, or differs in any bit.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not path.is_file() or type(head) is not nn.Linear or head.bias is not None:
        return ""
    weight: Tensor = head.weight
    if weight.data_ptr() != embedding.weight.data_ptr():
        return ""
    if (matrix := _read(path, weight.dtype)) is None:
        return ""
    if matrix.shape != weight.shape or not all(
        map(torch.equal, matrix.chunks(_CHUNK_ROWS), torch.split(weight, _CHUNK_ROWS))
    ):
        _log.warning("%s is of another embedding, and is not used.", path)
        return ""
    probe = torch.arange(min(64, len(weight)))
    equal = torch.equal(_embedding(matrix, embedding)(probe), embedding(probe))
    return matrix.digest() if equal else ""


def read_q8(path: Path, dtype: torch.dtype, digest: str) -> Q8Matrix | None:
    """Return the blocks in a file, to be rounded to a dtype; None if they are not those of a hash.

    Args:
        path: the file.
        dtype: of the values.
        digest: what `equal_q8_digest` returned; empty for none.
    """
    matrix = _read(path, dtype) if digest else None
    if matrix is not None and matrix.digest() != digest:
        _log.warning("%s has changed, and is not used.", path)
        return None
    return matrix


@torch.inference_mode()
def use_q8_embedding(model: Any, matrix: Q8Matrix) -> None:
    """Replace a tied embedding and output head by blocks that are equal to it, in place."""
    model.set_input_embeddings(_embedding(matrix, model.get_input_embeddings()))
    model.set_output_embeddings(Q8Head(matrix))


def _embedding(matrix: Q8Matrix, embedding: Any) -> Q8Embedding:
    factor = getattr(embedding, "embed_scale", None)
    return Q8Embedding(matrix, factor if isinstance(factor, Tensor) else None)


def _read(path: Path, dtype: torch.dtype) -> Q8Matrix | None:
    """Read a file's blocks; None if it cannot be read, which is logged."""
    try:
        tensors = load_file(path)
        return Q8Matrix(tensors["codes"], tensors["scales"], dtype)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        _log.warning("%s is not used, and the embedding takes twice as much: %s", path, error)
        return None
