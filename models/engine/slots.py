"""Keys and values, row by row: each row has a slot of its own length and position.

Rows need no padding and no mask of each other: they begin, end and are replaced alone, and what one
of them says does not depend on who else is in the batch. The slot of an ended row is kept for a
while: a prompt that begins with the same tokens under the same adapter takes it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import WeightsError

_CHANGES_SCORES = ("softcap", "s_aux", "sinks", "position_bias")
"""What some models' attention adds; unheard of, it would be wrong in silence."""
ATTENTION = "triptych"
"""The name under which transformers finds `attend`."""
_SPARE = 64
"""Tokens that a slot has room for beyond what it was asked to hold, so that it seldom grows."""


@dataclass(frozen=True, slots=True)
class KvShape:
    """Keys and values of a model."""

    layers: int
    heads: int
    size: int
    """Numbers in one key."""
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: Any) -> KvShape:
        """Read the shape off a model's configuration."""
        config = model.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(config.num_hidden_layers, heads, size, model.dtype, model.device)

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.heads * self.size * self.dtype.itemsize


class Slot:
    """Keys and values of one row, and the tokens that they are of."""

    def __init__(self, shape: KvShape, carries: tuple[int, float]) -> None:
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

    def copy_prefix(self, other: Slot, length: int) -> None:
        """Begin with the keys and values of another slot's first tokens."""
        self.reserve(length)
        self._kv[..., :length, :] = other._kv[..., :length, :]
        self.fed = other.fed[:length]

    def between(self, start: int, end: int) -> tuple[Tensor, ...]:
        """Return keys and values of some tokens, of each layer in turn: (1, heads, T, size)."""
        return self._kv[..., start:end, :].unbind()

    def _hold(self, capacity: int) -> None:
        shape, held = self.shape, len(self.fed)
        kv = torch.empty(
            (2 * shape.layers, 1, shape.heads, capacity, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )
        if held:
            kv[..., :held, :] = self._kv[..., :held, :]
        self._kv = kv


class Pass:
    """One forward pass: the places of its rows, in order; one token each, or one row's many."""

    def __init__(self, places: Sequence[tuple[Slot, int]], length: int) -> None:
        """Take where the rows go on, each a slot and the position in it, and by how many tokens.

        A slot may stand here several times, at one position after the other. Several places only
        for one token each.
        """
        self.places = places
        self.length = length
        self._new = [slot.between(start, start + length) for slot, start in places]
        self._seen: dict[int | None, list[tuple[Tensor, ...]]] = {}
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
        """(B, H, T, D), (B, heads, T, D) twice → (B, T, H, D)."""
        at = 2 * layer
        torch._foreach_copy_(
            [row[n] for row in self._new for n in (at, at + 1)],
            [
                one
                for pair in zip(torch.split(key, 1), torch.split(value, 1), strict=True)
                for one in pair
            ],
        )
        seen = [(row[at], row[at + 1]) for row in self._seen_within(window)]
        if self.length > 1:
            return self._prompt(query, *seen[0], scaling, window)
        rows, heads, _, size = query.shape
        # All queries that share a key are one block of queries.
        asked = query.view(rows, 1, key.shape[1], -1, size)
        answers = [
            functional.scaled_dot_product_attention(one, keys, values, scale=scaling)
            for one, (keys, values) in zip(asked, seen, strict=True)
        ]
        found = answers[0] if rows == 1 else torch.cat(answers)
        return found.view(rows, 1, heads, size)

    def _prompt(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        found = functional.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=self._mask(keys.shape[2], window, query.device),
            scale=scaling,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
        return found.transpose(1, 2)

    def _seen_within(self, window: int | None) -> list[tuple[Tensor, ...]]:
        """Return, for each row, the keys and values that its new tokens see, layer by layer."""
        if window not in self._seen:
            self._seen[window] = [
                slot.between(max(0, start + 1 - window) if window else 0, start + self.length)
                for slot, start in self.places
            ]
        return self._seen[window]

    def _mask(self, seen: int, window: int | None, device: torch.device) -> Tensor:
        """Return (T, seen): a token sees itself and what came before, as far as its window."""
        if window not in self._masks:
            positions = torch.arange(seen, device=device)
            back = positions[-self.length :, None] - positions
            visible = back >= 0 if window is None else (back >= 0) & (back < window)
            self._masks[window] = visible
        return self._masks[window]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    slots: Pass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Answer transformers' attention layers from slots; its own masks and caches are not used."""
    if slots is None:
        raise RuntimeError("This model answers through its engine only.")
    if unknown := [name for name in _CHANGES_SCORES if others.get(name) is not None]:
        raise WeightsError(f"This model's attention uses {unknown[0]}, which is not served.")
    return slots.attend(module.layer_idx, query, key, value, scaling, sliding_window), None
