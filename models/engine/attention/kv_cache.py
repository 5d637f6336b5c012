"""The KV cache of one sequence: keys and values of every layer, with its own length.

As each sequence has its own cache, a batch needs no padding and no mask between sequences: they
start and end independently, and the output of one does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.engine.interface import AdapterScale

_SPARE = 64
"""Least extra capacity in tokens when a cache grows, so that it seldom has to grow again."""
_MAX_SHARED = 1024
"""Tokens up to which caches share a tensor. Beyond, the kernel takes much longer than its call, and
a tensor of many rows would be large to move."""
_MAX_UNUSED = 4
"""Times as many rows as are in use that a shared tensor may have."""
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
    """Keys and values of one sequence, and the tokens that they belong to.

    Sequences that are continued together have theirs in one tensor, a row each, so that one call of
    the attention kernel can read several.
    """

    movable = True
    """Whether its contents may be moved to another tensor."""

    def __init__(self, shape: KVShape, adapter_scale: AdapterScale) -> None:
        """Create an empty cache for a sequence that runs under an adapter."""
        self.shape = shape
        self.adapter_scale = adapter_scale
        self.ids: list[int] = []
        """Ids of the tokens whose keys and values are cached."""
        self.tensor: Tensor
        """(2 · layers, rows, heads, capacity, size): keys and values of each layer in turn."""
        self.row: int
        """The row of `tensor` that is this sequence's."""
        self._allocate(0)

    @property
    def capacity(self) -> int:
        """Number of tokens that there is room for."""
        return self.tensor.shape[-2]

    def reserve(self, length: int) -> None:
        """Ensure room for `length` tokens.

        Raises:
            RuntimeError: out of memory; the cache is unchanged.
        """
        if length > self.capacity:
            self._allocate(_with_spare(length))

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

    @property
    def _kv(self) -> Tensor:
        """(2 · layers, 1, heads, capacity, size)."""
        return self.tensor[:, self.row : self.row + 1]

    def _allocate(self, capacity: int) -> None:
        length = len(self.ids)
        tensor = _zeros(self.shape, 1, capacity)
        if length:
            tensor[..., :length, :] = self._kv[..., :length, :]
        self.tensor, self.row = tensor, 0


def reserve(lengths: Mapping[KVCache, int]) -> None:
    """Ensure room for so many tokens in each cache; those that share a tensor grow together.

    Raises:
        RuntimeError: out of memory; the caches hold what they held.
    """
    for cache, length in lengths.items():
        if length <= cache.capacity:
            continue
        sharing = [other for other in lengths if other.tensor is cache.tensor]
        longest = max(lengths[other] for other in sharing)
        if len(sharing) > 1 and cache.movable and longest <= _MAX_SHARED:
            with suppress(RuntimeError, MemoryError):  # one alone may fit where all do not
                _move(sharing, _with_spare(longest))
        cache.reserve(length)


def share_tensor(caches: Sequence[KVCache]) -> None:
    """Move caches into one tensor, unless they are in one that is used well, or are long.

    Raises:
        RuntimeError: out of memory; the caches are unchanged.
    """
    capacity, rows = max(cache.capacity for cache in caches), caches[0].tensor.shape[1]
    if not all(cache.movable for cache in caches) or capacity > _with_spare(_MAX_SHARED):
        return
    together = all(cache.tensor is caches[0].tensor for cache in caches)
    if not together or rows > _MAX_UNUSED * len(caches):
        _move(caches, capacity)


def _move(caches: Sequence[KVCache], capacity: int) -> None:
    """Move caches into a new tensor of their own."""
    tensor = _zeros(caches[0].shape, len(caches), capacity)
    for row, cache in enumerate(caches):
        length = len(cache.ids)
        tensor[:, row, :, :length] = cache.tensor[:, cache.row, :, :length]
    for row, cache in enumerate(caches):
        cache.tensor, cache.row = tensor, row


def shared_slices(caches: Sequence[KVCache], start: int, end: int) -> tuple[Tensor, ...]:
    """Return views of some tokens of several caches, layer by layer: (caches, heads, T, size).

    Args:
        caches: evenly spaced rows of one tensor, in order.
        start: the first token.
        end: the one after the last.
    """
    first, last = caches[0], caches[-1]
    rows = slice(first.row, last.row + 1, caches[1].row - first.row if len(caches) > 1 else 1)
    return first.tensor[:, rows, :, start:end].unbind()


def _with_spare(length: int) -> int:
    """Return the capacity of a cache that grows to `length` tokens."""
    return length + max(_SPARE, length // 4)


def _zeros(shape: KVShape, rows: int, capacity: int) -> Tensor:
    """Return keys and values; masked ones are read, too, and must be finite."""
    return torch.zeros(
        (2 * shape.layers, rows, shape.heads, -(-capacity // BLOCK) * BLOCK, shape.size),
        dtype=shape.dtype,
        device=shape.device,
    )
