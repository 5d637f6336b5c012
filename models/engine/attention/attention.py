"""Attention of one pass: torch's kernel over the slots of its rows, in as few calls as can be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.attention.kv_cache import BLOCK, KVCache
from models.errors import WeightsError

_CHANGES_SCORES = ("softcap", "s_aux", "sinks", "position_bias")
"""What some models' attention adds; unheard of, it would be wrong in silence."""
ATTENTION = "triptych"
"""The name under which transformers finds `attend`."""
_COPIED = 256
"""Keys of a slot up to which they are put beside those of others: a copy costs less than a call."""

Place = tuple[KVCache, int]
"""Where a row goes on: a slot, and a position in it."""
_T = TypeVar("_T")
_Key = TypeVar("_Key")


class _Run(NamedTuple):
    """Tokens of one slot that are shown the same keys: those from `first` up to `end`."""

    slot: KVCache
    first: int
    end: int
    tokens: list[Place]


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


class AttentionPass:
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
                for one in torch.split_with_sizes(
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

        def shown(place: Place) -> tuple[KVCache, int, int, int]:
            slot, start = place
            at = self.position(place)
            first = max(0, at + 1 - window) // BLOCK * BLOCK if window else 0
            if self._length > 1:
                return slot, first, start + self._length, start
            return slot, first, (start // BLOCK + 1) * BLOCK, start if each % 4 else 0

        def alike(run: _Run) -> Hashable:
            keys = run.end - run.first
            apart = keys > _COPIED or each % 4
            return keys, len(run.tokens), run.tokens[0] if apart else None

        runs = [_Run(*seen[:3], tokens) for seen, tokens in _grouped(self._places, shown)]
        return [self._call(some, each, window) for _, some in _grouped(runs, alike)]

    def _call(self, runs: Sequence[_Run], each: int, window: int | None) -> _Call:
        """Return the call that some tokens of each of several slots share."""
        seen = [run.slot.between(run.first, run.end) for run in runs]
        like = seen[0][0]
        device, (_, heads, keys, size) = like.device, like.shape
        starts = torch.tensor([[at for _, at in run.tokens] for run in runs], device=device)
        firsts = torch.tensor([[run.first] for run in runs], device=device)
        asked = (starts[:, :, None] + torch.arange(self._length, device=device)).flatten(1)
        shown = firsts + torch.arange(keys, device=device)
        back = asked[:, :, None] - shown[:, None]
        if self._branches:
            back = self._back_in_branches(back, shown, [run.tokens for run in runs])
        hidden = back < 0 if window is None else (back < 0) | (back >= window)
        mask = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return _Call(
            seen=seen,
            mask=mask.repeat_interleave(each, 1)[:, None],
            tokens=asked.numel(),
            room=like.new_empty(2, len(runs), heads, keys, size).unbind() if len(runs) > 1 else (),
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


def merge_order(places: Sequence[Place]) -> list[int]:
    """Return the order in which the slots stand beside each other whose tokens can look together.

    Returns:
        The numbers of the places; those of one slot stay as they are.
    """
    numbers = _grouped(range(len(places)), lambda n: places[n][0])
    runs = sorted(
        (some for _, some in numbers), key=lambda run: [places[n][1] // BLOCK for n in run]
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
    slots: AttentionPass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Answer transformers' attention layers from slots; its own masks and caches are not used."""
    if slots is None:
        raise RuntimeError("This model answers through its engine only.")
    if unknown := [name for name in _CHANGES_SCORES if others.get(name) is not None]:
        raise WeightsError(f"This model's attention uses {unknown[0]}, which is not served.")
    return slots.attend(module.layer_idx, query, key, value, scaling, sliding_window), None
