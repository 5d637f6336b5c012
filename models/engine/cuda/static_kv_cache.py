"""A KV cache of fixed shape for many sequences, as decode steps of fixed shape need it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.attention.kv_cache import KVCache, KVShape
from models.engine.interface import AdapterScale


class StaticKVSlot(KVCache):
    """The KV cache of one sequence: a slot of the shared tensor, whose address never changes."""

    movable = False

    def __init__(self, cache: StaticKVCache, number: int, adapter_scale: AdapterScale) -> None:
        """Create an empty cache in a free slot."""
        self.number = number
        self._cache = cache
        super().__init__(cache.shape, adapter_scale)

    def reserve(self, length: int) -> None:
        """Check that `length` tokens fit into the slot.

        Raises:
            MemoryError: the slot is shorter.
        """
        if length > self._cache.length:
            raise MemoryError(f"a sequence of {length} tokens in slots of {self._cache.length}")

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens."""
        del self.ids[length:]

    def _allocate(self, capacity: int) -> None:
        self.tensor, self.row = self._cache.kv, self.number


class StaticKVCache:
    """Keys and values of many sequences, in one tensor."""

    def __init__(self, shape: KVShape, count: int, length: int) -> None:
        """Allocate slots for `count` sequences of at most `length` tokens each."""
        self.shape = shape
        self.length = length
        self.kv = torch.zeros(
            (2 * shape.layers, count, shape.heads, length + 1, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )
        """(2 · layers, slots, heads, length + 1, size); the last column is never read."""

    def take(self, adapter_scale: AdapterScale, taken: Sequence[KVCache]) -> StaticKVSlot | None:
        """Return the first slot that is not in `taken`; None if all are."""
        numbers = {slot.number for slot in taken if isinstance(slot, StaticKVSlot)}
        free = next((n for n in range(self.kv.shape[1]) if n not in numbers), None)
        return None if free is None else StaticKVSlot(self, free, adapter_scale)


class StaticAttentionPass:
    """Attention of a pass over the first slots, one token each; replaces `AttentionPass`."""

    def __init__(self, kv: Tensor, positions: Tensor, columns: Tensor, columns_read: int) -> None:
        """Plan the pass.

        Args:
            kv: (2 · layers, B, heads, columns, size), keys and values of the first slots.
            positions: (B,): a token sees the columns up to its position.
            columns: (B,): the column that its key and value are written to.
            columns_read: number of columns that attention reads; greater than any position.
        """
        self.columns_read = columns_read
        self._kv = kv
        self._positions = positions
        self._columns = columns
        self._slots = torch.arange(kv.shape[1], device=kv.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """(B, H, 1, D), (B, heads, 1, D) twice → (B, 1, H, D); see `AttentionPass.attend`."""
        keys, values = self._kv[2 * layer], self._kv[2 * layer + 1]
        keys[self._slots, :, self._columns] = key[:, :, 0]
        values[self._slots, :, self._columns] = value[:, :, 0]
        rows, heads, _, size = query.shape
        output = functional.scaled_dot_product_attention(
            query.view(rows, key.shape[1], -1, size),
            keys[:, :, : self.columns_read],
            values[:, :, : self.columns_read],
            attn_mask=self._mask(window),
            scale=scaling,
        )
        return output.reshape(rows, 1, heads, size)

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            distance = self._positions[:, None] - torch.arange(
                self.columns_read, device=self._kv.device
            )
            visible = distance >= 0
            if window is not None:
                visible &= distance < window
            self._masks[window] = visible[:, None, None]
        return self._masks[window]
