"""Keys and values, row by row: each row has a slot of its own length and position.

Rows need no padding and no mask of each other: they begin, end and are replaced alone, and what one
of them says does not depend on who else is in the batch. The slot of an ended row is kept for a
while: a prompt that begins with the same tokens under the same adapter takes it over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

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
_BLOCK = 64
"""Tokens that keys and values are shown by."""
_COPIED = 256
"""Keys of a slot up to which they are put beside those of others: a copy costs less than a call."""


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
    def of(cls, model: Any, dtype: torch.dtype) -> KvShape:
        """Read the shape off a model's configuration; it computes in a type of its own."""
        config = model.config.get_text_config()
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(config.num_hidden_layers, heads, size, dtype, model.device)

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
        kv = torch.zeros(  # what is hidden, as wrong guesses are, must be finite all the same
            (2 * shape.layers, 1, shape.heads, -(-capacity // _BLOCK) * _BLOCK, shape.size),
            dtype=shape.dtype,
            device=shape.device,
        )
        if held:
            kv[..., :held, :] = self._kv[..., :held, :]
        self._kv = kv


Place = tuple[Slot, int]
"""Where a row goes on: a slot, and a position in it."""
_T = TypeVar("_T")
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class _Call:
    """What one call of torch's kernel is shown: tokens of some slots, equally many of each."""

    seen: list[tuple[Tensor, ...]]
    """Keys and values of each slot, layer by layer: (1, heads, keys, size)."""
    mask: Tensor
    """(slots, 1, tokens · queries, keys), to be added."""
    tokens: int
    """Of all its slots together."""
    room: tuple[Tensor, ...]
    """Where the keys and values of several slots are put side by side; nothing for one."""

    def keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return those of one layer: (slots, heads, keys, size)."""
        at = 2 * layer
        if not self.room:
            return self.seen[0][at], self.seen[0][at + 1]
        keys, values = self.room
        torch.cat([one[at] for one in self.seen], out=keys)
        torch.cat([one[at + 1] for one in self.seen], out=values)
        return keys, values


class Pass:
    """One forward pass: the places of its rows, in order; one token each, or many of each slot.

    Tokens of one slot look in one call, and so do slots that stand beside each other and are alike;
    and yet each finds what it would find alone, to the bit: torch's kernel adds in an order that
    depends on how many keys it is given, hidden ones included, and on whether a query is among the
    last one to three of a block. So keys are given in whole blocks, and tokens look together that
    are given as many, where their queries come in fours.
    """

    def __init__(
        self, places: Sequence[Place], length: int, branches: Sequence[int] | None = None
    ) -> None:
        """Take where the rows go on, each a slot and the place in it, and by how many tokens.

        A slot may stand here several times, at one place after the other, with one token each.

        Args:
            places: slot and place, in order.
            length: tokens of each.
            branches: for each place, the one at which its branch begins. Branches lie in a slot
                one after the other, and each goes on from what the slot has fed, as if alone.
        """
        self._places = places
        self._branches = dict(zip(places, branches, strict=True)) if branches else {}
        self._length = length
        self._new = [
            slot.between(some[0][1], some[-1][1] + length)
            for slot, some in _grouped(places, lambda place: place[0])
        ]
        self._counts = [new[0].shape[2] for new in self._new]
        self._calls: dict[int | None, list[_Call]] = {}

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
        at, (rows, heads, length, size) = 2 * layer, key.shape
        torch._foreach_copy_(
            [new[n] for n in (at, at + 1) for new in self._new],
            [
                one
                for new in (key, value)
                for one in torch.split(
                    new.transpose(0, 1).reshape(1, heads, -1, size), self._counts, 2
                )
            ],
        )
        # All queries of a token that share a key stand together: (tokens, heads, queries, D).
        asked = query.reshape(rows, heads, -1, length, size).permute(0, 3, 1, 2, 4)
        each = asked.shape[3]
        asked = asked.reshape(-1, heads, each, size)
        if window not in self._calls:
            self._calls[window] = self._plan(window, each)
        found, begin = [], 0
        for call in self._calls[window]:
            block = asked[begin : begin + call.tokens].view(len(call.seen), -1, heads, each, size)
            begin += call.tokens
            keys, values = call.keys_and_values(layer)
            answer = functional.scaled_dot_product_attention(
                block.transpose(1, 2).reshape(len(call.seen), heads, -1, size),
                keys,
                values,
                attn_mask=call.mask,
                scale=scaling,
            )
            answer = answer.view(len(call.seen), heads, -1, each, size).transpose(1, 2)
            found.append(answer.reshape(call.tokens, -1, size))
        whole = found[0] if len(found) == 1 else torch.cat(found)
        return whole.view(rows, length, -1, size)

    def position(self, place: Place) -> int:
        """Return where in its text the first token of a place stands."""
        slot, start = place
        return len(slot.fed) + start - branch if (branch := self._branches.get(place)) else start

    def _plan(self, window: int | None, each: int) -> list[_Call]:
        """Return the calls that serve all places, in order; a token sees as far as its window."""

        def shown(place: Place) -> tuple[Slot, int, int, int]:
            slot, start = place
            at = self.position(place)
            first = max(0, at + 1 - window) // _BLOCK * _BLOCK if window else 0
            if self._length > 1:
                return slot, first, start + self._length, start
            return slot, first, (start // _BLOCK + 1) * _BLOCK, start if each % 4 else 0

        def alike(run: tuple[tuple[Slot, int, int, int], list[Place]]) -> Hashable:
            (slot, first, end, at), tokens = run
            keys = end - first
            return keys, len(tokens), (slot, first, at) if keys > _COPIED else None

        runs = _grouped(self._places, shown)
        return [self._call(some, each, window) for _, some in _grouped(runs, alike)]

    def _call(self, runs: Sequence[Any], each: int, window: int | None) -> _Call:
        """Return the call that some tokens of each of several slots share."""
        seen = [slot.between(first, end) for (slot, first, end, _), _ in runs]
        like = seen[0][0]
        device, (_, heads, keys, size) = like.device, like.shape
        starts = torch.tensor([[start for _, start in tokens] for _, tokens in runs], device=device)
        firsts = torch.tensor([[first] for (_, first, _, _), _ in runs], device=device)
        asked = (starts[:, :, None] + torch.arange(self._length, device=device)).flatten(1)
        shown = firsts + torch.arange(keys, device=device)
        back = asked[:, :, None] - shown[:, None]
        if self._branches:
            back = self._back_in_branches(back, shown, [tokens for _, tokens in runs])
        hidden = back < 0 if window is None else (back < 0) | (back >= window)
        mask = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        beside = len(runs) > 1
        return _Call(
            seen=seen,
            mask=mask.repeat_interleave(each, 1)[:, None],
            tokens=asked.numel(),
            room=like.new_empty(2, len(runs), heads, keys, size).unbind() if beside else (),
        )

    def _back_in_branches(
        self, back: Tensor, shown: Tensor, tokens: Sequence[Sequence[Place]]
    ) -> Tensor:
        """Return how far back each key lies; below 0 what is in no token's own past.

        Args:
            back: (slots, tokens, keys), how far back it lies in the slot.
            shown: (slots, keys), where in the slot it lies.
            tokens: the places, slot by slot.
        """
        begins = shown.new_tensor([[self._branches[one] for one in some] for some in tokens])
        held = shown.new_tensor([[len(slot.fed) for slot, _ in some] for some in tokens])
        own = back.masked_fill(shown[:, None] < begins[:, :, None], -1)
        since = (held - begins)[:, :, None] + back
        return torch.where(shown[:, None] < held[:, :, None], since, own)


def beside(places: Sequence[Place]) -> list[int]:
    """Return the order in which the slots stand beside each other whose tokens can look together.

    Returns:
        The numbers of the places; those of one slot stay as they are.
    """
    numbers = _grouped(range(len(places)), lambda n: places[n][0])
    runs = sorted(
        (some for _, some in numbers), key=lambda run: [places[n][1] // _BLOCK for n in run]
    )
    return [n for run in runs for n in run]


def _grouped(items: Sequence[_T], key: Callable[[_T], _Key]) -> list[tuple[_Key, list[_T]]]:
    """Return what stands beside each other and has the same key, as one."""
    return [(one, list(some)) for one, some in groupby(items, key)]


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
