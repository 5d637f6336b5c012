"""An embedding that is the output head, too, held in the 8 bits that it came in.

GGUF's Q8_0: 32 numbers of a row share a scale in float16, and each is a whole number of it. In bf16
a base's folder holds those values rounded, in twice the bytes. Here they are rounded when they are
read: the same values, to the bit, or the blocks are not used.
"""

from __future__ import annotations

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
SIZE = 32
"""Numbers that share a scale."""
_PART = 2048
"""Rows of the head that are read at a time: they stay in the cache."""


class Q8Matrix:
    """A matrix in blocks; its rows are had by their numbers, as a tensor's are."""

    def __init__(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> None:
        """Take (rows, columns) int8, (rows, columns / 32) float16, and the type that it is read in.

        Raises:
            ValueError: the two do not belong together.
        """
        kinds = (codes.dtype, codes.ndim, scales.dtype, scales.ndim)
        if (
            kinds != (torch.int8, 2, torch.float16, 2)
            or scales.shape != (len(codes), codes.shape[1] // SIZE)
            or codes.shape[1] % SIZE
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
        """Count the rows."""
        return len(self.codes)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return some rows: (…) → (…, columns)."""
        codes, scales = self.codes[rows], self.scales[rows].float()
        wide: Tensor = codes.view(*scales.shape, SIZE) * scales[..., None]
        return wide.to(self.dtype).view(codes.shape)

    def data_ptr(self) -> int:
        """Return what tells equal matrices that are held once from others."""
        return self.codes.data_ptr()

    def parts(self, rows: int) -> Iterator[Tensor]:
        """Yield the matrix by that many rows, each part in the place of the one before it."""
        wide = torch.empty(rows, self.shape[1] // SIZE, SIZE)
        told = torch.empty(rows, self.shape[1], dtype=self.dtype)
        for codes, scales in zip(
            torch.split(self.codes, rows), torch.split(self.scales, rows), strict=True
        ):
            part = wide[: len(codes)]
            part.copy_(codes.view(part.shape)).mul_(scales.float()[..., None])
            yield told[: len(codes)].copy_(part.view(codes.shape))


def row_chunks(matrix: Tensor | Q8Matrix, rows: int) -> Iterator[Tensor]:
    """Yield a matrix by that many rows; a part stands until the next is asked for."""
    return iter(torch.split(matrix, rows)) if isinstance(matrix, Tensor) else matrix.parts(rows)


class Q8Embedding(HooklessModule):
    """An embedding in blocks."""

    def __init__(self, weight: Q8Matrix, factor: Tensor | None) -> None:
        """Take the matrix, and what some models multiply by."""
        super().__init__()
        self.weight = weight
        self.factor = None if factor is None else factor.to(weight.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d)."""
        found = self.weight[ids]
        return found if self.factor is None else found * self.factor


class Q8Head(HooklessModule):
    """An output head in blocks."""

    bias = None

    def __init__(self, weight: Q8Matrix) -> None:
        """Take the matrix."""
        super().__init__()
        self.weight = weight
        # A parameter, for transformers asks those where the model is.
        self.codes = weight.codes = nn.Parameter(weight.codes, requires_grad=False)
        self.register_buffer("scales", weight.scales, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V)."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        logits = rows.new_empty(len(rows), len(self.weight))
        for columns, part in zip(
            torch.split(logits, _PART, 1), self.weight.parts(_PART), strict=True
        ):
            columns.copy_(functional.linear(rows, part))
        return logits.view(*hidden.shape[:-1], -1)


@torch.inference_mode()
def use_q8_embedding(model: Any, path: Path) -> None:
    """Hold a model's embedding, if it is its head, too, in a file's blocks, in place.

    Where anything is not the same to the bit, or no file can be read, the model stays as it is.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not path.is_file() or type(head) is not nn.Linear or head.bias is not None:
        return
    own: Tensor = head.weight
    if own.data_ptr() != embedding.weight.data_ptr():
        return
    try:
        held = load_file(path)
        blocks = Q8Matrix(held["codes"], held["scales"], own.dtype)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        _log.warning("%s is not used, and the embedding takes twice as much: %s", path, error)
        return
    if blocks.shape != own.shape or not all(
        map(torch.equal, blocks.parts(_PART), torch.split(own, _PART))
    ):
        _log.warning("%s is of another embedding, and is not used.", path)
        return
    factor = getattr(embedding, "embed_scale", None)
    told = Q8Embedding(blocks, factor if isinstance(factor, Tensor) else None)
    some = torch.arange(min(64, len(own)))
    if torch.equal(told(some), embedding(some)):
        model.set_input_embeddings(told)
        model.set_output_embeddings(Q8Head(blocks))
