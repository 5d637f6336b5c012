"""The KV cache of one sequence: keys and values of every layer, with its own length.

As each sequence has its own cache, a batch needs no padding and no mask between sequences: they
start and end independently, and the output of one does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.engine.interface import AdapterScale

_SPARE = 64
"""Least extra capacity in tokens when a cache grows, so that it seldom has to grow again."""
BLOCK = 64
"""Tokens in a block; attention reads keys and values in whole blocks."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """Shape of a model's keys and values."""

    layers: int
    heads: int
    """Key-value heads."""
    size: int
    """Dimension of one key (the head size)."""
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype) -> KVShape:
        """Read the shape from a model's configuration; `dtype` is what its layers compute in."""
        config = model.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(config.num_hidden_layers, heads, size, dtype, model.device)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token, all layers together."""
        return 2 * self.layers * self.heads * self.size * self.dtype.itemsize


class KVCache:
    """Keys and values of one sequence, and the tokens that they belong to."""

    def __init__(self, shape: KVShape, adapter_scale: AdapterScale) -> None:
        """Create an empty cache for a sequence that runs under an adapter."""
        self.shape = shape
        self.adapter_scale = adapter_scale
        self.ids: list[int] = []
        """Ids of the tokens whose keys and values are cached."""
        self._kv: Tensor
        """(2 · layers, 1, heads, capacity, size): keys and values of each layer in turn."""
        self._allocate(0)

    def reserve(self, length: int) -> None:
        """Ensure room for `length` tokens.

        Raises:
            RuntimeError: out of memory; the cache is unchanged.
        """
        if length > self._kv.shape[-2]:
            self._allocate(length + max(_SPARE, length // 4))

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens, and free the memory of the others."""
        del self.ids[length:]
        self._allocate(length)

    def copy_prefix(self, other: KVCache, length: int) -> None:
        """Copy keys and values of another cache's first `length` tokens into this empty one."""
        self.reserve(length)
        self._kv[..., :length, :] = other._kv[..., :length, :]
        self.ids = other.ids[:length]

    def slices(self, start: int, end: int) -> tuple[Tensor, ...]:
        """Return views of some tokens' keys and values, layer by layer: (1, heads, T, size)."""
        return self._kv[..., start:end, :].unbind()

    def _allocate(self, capacity: int) -> None:
        shape, length = self.shape, len(self.ids)
        kv = torch.zeros(  # masked keys and values are read, too, and must be finite
            (2 * shape.layers, 1, shape.heads, -(-capacity // BLOCK) * BLOCK, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )
        if length:
            kv[..., :length, :] = self._kv[..., :length, :]
        self._kv = kv
