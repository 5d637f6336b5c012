"""Slots of one length in one tensor: what a step whose shape never changes runs over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.attention.kv_cache import KVCache, KVShape


class StaticKVSlot(KVCache):
    """A slot that is a part of one tensor and never moves."""

    def __init__(self, lanes: StaticKVCache, number: int, carries: tuple[int, float]) -> None:
        """Begin empty, in a lane that is free."""
        self.number = number
        self._lanes = lanes
        super().__init__(lanes.shape, carries)

    def reserve(self, length: int) -> None:
        """Refuse what does not fit.

        Raises:
            MemoryError: the lane is shorter than that.
        """
        if length > self._lanes.length:
            raise MemoryError(f"a row of {length} tokens, in lanes of {self._lanes.length}")

    def cut(self, length: int) -> None:
        """Hold the first tokens only."""
        del self.fed[length:]

    def _hold(self, capacity: int) -> None:
        self._kv = self._lanes.kv[:, self.number : self.number + 1]


class StaticKVCache:
    """Keys and values of many rows, in one tensor."""

    def __init__(self, shape: KVShape, count: int, length: int) -> None:
        """Take how many rows at most, and how many tokens each at most."""
        self.shape = shape
        self.length = length
        self.kv = torch.zeros(
            (2 * shape.layers, count, shape.heads, length + 1, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )

    def take(self, carries: tuple[int, float], taken: Sequence[KVCache]) -> StaticKVSlot | None:
        """Return the first lane that is not taken; None where all are."""
        numbers = {lane.number for lane in taken if isinstance(lane, StaticKVSlot)}
        free = next((n for n in range(self.kv.shape[1]) if n not in numbers), None)
        return None if free is None else StaticKVSlot(self, free, carries)


class StaticAttentionPass:
    """One pass over the first lanes, one token each. Stands where `AttentionPass` does."""

    def __init__(self, kv: Tensor, positions: Tensor, columns: Tensor, seen: int) -> None:
        """Take the lanes' part of the tensor, and where each lane's token stands.

        Args:
            kv: (2 · layers, B, heads, columns that may be written, size).
            positions: (B,): a token sees the columns up to its position.
            columns: (B,): where its key and value are written.
            seen: how many columns attention reads; none of the positions is beyond.
        """
        self.seen = seen
        self._kv = kv
        self._positions = positions
        self._columns = columns
        self._rows = torch.arange(kv.shape[1], device=kv.device)
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
        """(B, H, 1, D), (B, heads, 1, D) twice → (B, 1, H, D)."""
        keys, values = self._kv[2 * layer], self._kv[2 * layer + 1]
        keys[self._rows, :, self._columns] = key[:, :, 0]
        values[self._rows, :, self._columns] = value[:, :, 0]
        rows, heads, _, size = query.shape
        found = functional.scaled_dot_product_attention(
            query.view(rows, key.shape[1], -1, size),
            keys[:, :, : self.seen],
            values[:, :, : self.seen],
            attn_mask=self._mask(window),
            scale=scaling,
        )
        return found.reshape(rows, 1, heads, size)

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            back = self._positions[:, None] - torch.arange(self.seen, device=self._kv.device)
            visible = back >= 0 if window is None else (back >= 0) & (back < window)
            self._masks[window] = visible[:, None, None]
        return self._masks[window]
