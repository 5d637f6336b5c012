"""Keys and values, row by row: each row has a slot of its own length and position.

Rows need no padding and no mask of each other: they begin, end and are replaced alone, and what one
of them says does not depend on who else is in the batch. The slot of an ended row is kept for a
while: a prompt that begins with the same tokens under the same adapter takes it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SPARE = 64
"""Tokens that a slot has room for beyond what it was asked to hold, so that it seldom grows."""
BLOCK = 64
"""Tokens that keys and values are shown by."""


@dataclass(frozen=True, slots=True)
class KVShape:
    """Keys and values of a model."""

    layers: int
    heads: int
    size: int
    """Numbers in one key."""
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype) -> KVShape:
        """Read the shape off a model's configuration; it computes in a type of its own."""
        config = model.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(config.num_hidden_layers, heads, size, dtype, model.device)

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.heads * self.size * self.dtype.itemsize


class KVCache:
    """Keys and values of one row, and the tokens that they are of."""

    def __init__(self, shape: KVShape, carries: tuple[int, float]) -> None:
        """Begin empty, under an adapter and its strength."""
        self.shape = shape
        self.carries = carries
        self.fed: list[int] = []
        """The tokens whose keys and values are held."""
        self._kv: Tensor
        """(2 · layers, 1, heads, capacity, size)."""
        self._hold(0)

    def reserve(self, length: int) -> None:
        """Make room for that many tokens.

        Raises:
            RuntimeError: the memory cannot be had; the slot is as it was.
        """
        if length > self._kv.shape[-2]:
            self._hold(length + max(_SPARE, length // 4))

    def cut(self, length: int) -> None:
        """Hold the first tokens only, and no more memory than they need."""
        del self.fed[length:]
        self._hold(length)

    def copy_prefix(self, other: KVCache, length: int) -> None:
        """Begin with the keys and values of another slot's first tokens."""
        self.reserve(length)
        self._kv[..., :length, :] = other._kv[..., :length, :]
        self.fed = other.fed[:length]

    def between(self, start: int, end: int) -> tuple[Tensor, ...]:
        """Return keys and values of some tokens, of each layer in turn: (1, heads, T, size)."""
        return self._kv[..., start:end, :].unbind()

    def _hold(self, capacity: int) -> None:
        shape, held = self.shape, len(self.fed)
        kv = torch.zeros(  # what is hidden, as wrong guesses are, must be finite all the same
            (2 * shape.layers, 1, shape.heads, -(-capacity // BLOCK) * BLOCK, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )
        if held:
            kv[..., :held, :] = self._kv[..., :held, :]
        self._kv = kv
