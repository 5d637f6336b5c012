"""Attention of one forward pass: torch's kernel over the KV caches of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.attention.kv_cache import BLOCK, KVCache, share_tensor, shared_slices

_UNSUPPORTED = ("softcap", "s_aux", "sinks", "position_bias")
"""Arguments with which some models modify attention; ignoring them would give wrong output."""
ATTENTION = "triptych"
"""The name under which transformers finds `attend`."""
Place = tuple[KVCache, int]
"""Where a row's first token goes: a KV cache, and a position in it."""
_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


class _Run(NamedTuple):
    """Tokens of one cache that see the same keys: those from `first` up to `end`."""

    cache: KVCache
    first: int
    end: int
    places: list[Place]


@dataclass(frozen=True, slots=True)
class _Call:
    """Arguments of one attention kernel call: some caches, with equally many tokens of each."""

    kv: tuple[Tensor, ...]
    """Keys and values, layer by layer: (caches, heads, keys, size)."""
    mask: Tensor
    """(caches, 1, tokens · queries, keys): 0 or −∞, added to the scores."""
    tokens: int
    """Number of tokens of all its caches together."""

    def attend(self, queries: Tensor, at: int, scaling: float | None) -> Tensor:
        """Return the attention output of one layer.

        Args:
            queries: (tokens, heads, queries, D).
            at: index of the layer's keys; its values come next.
            scaling: factor on the scores; None is 1 / √D.

        Returns:
            (tokens, heads · queries, D).
        """
        keys, values = self.kv[at], self.kv[at + 1]
        caches, heads, size = len(keys), keys.shape[1], keys.shape[3]
        group_size = queries.shape[2]
        if self.tokens > caches:  # the queries of all tokens of a cache look at its keys together
            queries = queries.view(caches, -1, heads, group_size, size).transpose(1, 2)
            queries = queries.reshape(caches, heads, -1, size)
        output = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=self.mask, scale=scaling
        )
        if self.tokens > caches:
            output = output.view(caches, heads, -1, group_size, size).transpose(1, 2)
        return output.reshape(self.tokens, -1, size)


class AttentionPass:
    """The attention of one forward pass, over all layers.

    Tokens of one cache share a kernel call, and so do neighbouring caches of equal length. Each
    row's output is still the same, to the bit, as if it were computed alone. torch's kernel sums in
    an order that depends on the number of keys, masked ones included, and on whether a query is
    among the last one to three of a block. So keys are passed in whole blocks, and tokens share a
    call only if they see equally many keys and each has a multiple of four queries.
    """

    def __init__(
        self,
        places: Sequence[Place],
        length: int,
        branches: Sequence[int] | None = None,
        merge: bool = True,
    ) -> None:
        """Plan the pass.

        A cache may occur several times in `places`, at successive positions, with one token each.

        Args:
            places: for each row, a cache and the position of its first token, in order.
            length: number of tokens of each row.
            branches: for each place, the position at which its branch begins. Branches are
                alternative continuations of the cached tokens: they are stored in the cache one
                after the other, and do not see each other.
            merge: whether several caches may share a call; those whose tokens end in the same
                block are then moved into one tensor, if there is memory for it.
        """
        self._places = places
        self._branches = dict(zip(places, branches, strict=True)) if branches else {}
        self._length = length
        self._merge = merge
        groups = _grouped(places, lambda place: place[0])
        if merge:
            for _, neighbours in _grouped(groups, lambda group: _block(group[1][-1], length)):
                with suppress(RuntimeError, MemoryError):  # they can be read where they are
                    share_tensor([cache for cache, _ in neighbours])
        written = [cache.slices(group[0][1], group[-1][1] + length) for cache, group in groups]
        self._written = list(zip(*written, strict=True))
        """For keys and values of each layer in turn, the views of each cache that they go to."""
        self._counts = [view.shape[2] for view in self._written[0]]
        self._calls: dict[int | None, list[_Call]] = {}
        """The kernel calls of a layer, by the size of its sliding window."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """Cache the new keys and values, and return the attention output of one layer.

        Args:
            layer: index of the layer.
            query: (B, H, T, D).
            key: (B, heads, T, D).
            value: (B, heads, T, D).
            scaling: factor on the scores; None is 1 / √D.
            window: size of the sliding window in tokens; None for full attention.

        Returns:
            (B, T, H, D).
        """
        at, (rows, heads, length, size) = 2 * layer, key.shape
        torch._foreach_copy_(
            [*self._written[at], *self._written[at + 1]],
            [*self._by_cache(key), *self._by_cache(value)],
        )
        # Queries of a token that share a key-value head: (tokens, heads, queries, D).
        if length == 1:
            queries = query.reshape(rows, heads, -1, size)
        else:
            queries = query.reshape(rows, heads, -1, length, size).permute(0, 3, 1, 2, 4)
            queries = queries.reshape(-1, heads, queries.shape[3], size)
        if window not in self._calls:
            self._calls[window] = self._plan(window, queries.shape[2])
        calls, outputs, begin = self._calls[window], [], 0
        for call in calls:
            block = queries[begin : begin + call.tokens] if len(calls) > 1 else queries
            begin += call.tokens
            outputs.append(call.attend(block, at, scaling))
        joined = outputs[0] if len(calls) == 1 else torch.cat(outputs)
        return joined.view(rows, length, -1, size)

    def _by_cache(self, new: Tensor) -> Sequence[Tensor]:
        """Split new keys or values, (B, heads, T, D), by cache: (1, heads, tokens, D) each."""
        if len(self._counts) == len(new):
            return torch.split(new, 1)
        heads, size = new.shape[1], new.shape[3]
        tokens = new.transpose(0, 1).reshape(1, heads, -1, size)
        return torch.split_with_sizes(tokens, self._counts, 2)

    def position(self, place: Place) -> int:
        """Return a first token's position in its text; in a branch, the cache's is another."""
        cache, start = place
        if branch := self._branches.get(place):
            return len(cache.ids) + start - branch
        return start

    def _plan(self, window: int | None, group_size: int) -> list[_Call]:
        """Return the kernel calls that serve all places, in order.

        Args:
            window: size of the layer's sliding window.
            group_size: queries of a token that share a key-value head (grouped-query attention).
        """

        def keys_seen(place: Place) -> tuple[KVCache, int, int, int]:
            """Return cache, first key and end; the last number separates runs that differ in it."""
            cache, start = place
            first = max(0, self.position(place) + 1 - window) // BLOCK * BLOCK if window else 0
            if self._length > 1:
                return cache, first, start + self._length, start
            return cache, first, (start // BLOCK + 1) * BLOCK, start if group_size % 4 else 0

        calls: list[list[_Run]] = []
        for run in (_Run(*seen[:3], places) for seen, places in _grouped(self._places, keys_seen)):
            if calls and self._merge and group_size % 4 == 0 and _share_a_call(calls[-1], run):
                calls[-1].append(run)
            else:
                calls.append([run])
        return [self._call(runs, group_size, window) for runs in calls]

    def _call(self, runs: Sequence[_Run], group_size: int, window: int | None) -> _Call:
        """Build the kernel call that runs with equal keys and equally many places share."""
        first = runs[0].first
        kv = shared_slices([run.cache for run in runs], first, runs[0].end)
        like, device = kv[0], kv[0].device
        starts = torch.tensor([[at for _, at in run.places] for run in runs], device=device)
        tokens = (starts[:, :, None] + torch.arange(self._length, device=device)).flatten(1)
        positions = torch.arange(first, first + like.shape[2], device=device).expand(len(runs), -1)
        distance = tokens[:, :, None] - positions[:, None]
        if self._branches:
            distance = self._branch_distance(distance, positions, [run.places for run in runs])
        hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
        mask = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return _Call(kv, mask.repeat_interleave(group_size, 1)[:, None], tokens.numel())

    def _branch_distance(
        self, distance: Tensor, positions: Tensor, places: Sequence[Sequence[Place]]
    ) -> Tensor:
        """Return the distance from each key to each token of a branch.

        Keys that a token must not see, as those of other branches, get a negative distance.

        Args:
            distance: (caches, tokens, keys), distance from key to token in the cache.
            positions: (caches, keys), positions of the keys in the cache.
            places: the tokens' places, cache by cache.
        """
        begins = positions.new_tensor(
            [[self._branches[place] for place in group] for group in places]
        )
        cached = positions.new_tensor([[len(cache.ids) for cache, _ in group] for group in places])
        own = distance.masked_fill(positions[:, None] < begins[:, :, None], -1)
        before = (cached - begins)[:, :, None] + distance
        return torch.where(positions[:, None] < cached[:, :, None], before, own)


def _share_a_call(runs: Sequence[_Run], run: _Run) -> bool:
    """Whether a call that serves these runs can serve the next one, too.

    It can if they have equal keys, equally many places, and are evenly spaced rows of one tensor.
    """
    last, cache = runs[-1], run.cache
    step = cache.row - last.cache.row
    return (
        (run.first, run.end, len(run.places)) == (last.first, last.end, len(last.places))
        and cache.tensor is last.cache.tensor
        and step > 0
        and (len(runs) == 1 or step == last.cache.row - runs[-2].cache.row)
    )


def merge_order(places: Sequence[Place]) -> list[int]:
    """Return an order of the places in which caches that can share a call are neighbours.

    Rows of one tensor come in its order. They share a call while they are evenly spaced in it.

    Returns:
        The indices of the places; places of one cache keep their order.
    """
    groups = _grouped(range(len(places)), lambda n: places[n][0])
    runs = sorted(
        (numbers for _, numbers in groups),
        key=lambda run: ([_block(places[n]) for n in run], places[run[0]][0].row),
    )
    return [n for run in runs for n in run]


def _block(place: Place, length: int = 1) -> int:
    """Return the block that the last of `length` tokens at a place is in."""
    return (place[1] + length - 1) // BLOCK


def _grouped(
    items: Sequence[_Item], key: Callable[[_Item], _Key]
) -> list[tuple[_Key, list[_Item]]]:
    """Return runs of neighbouring items with an equal key."""
    return [(value, list(group)) for value, group in groupby(items, key)]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    attention_pass: AttentionPass | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute transformers' attention layers from KV caches; its masks and caches are unused.

    Raises:
        RuntimeError: the model's attention is of a kind that is not served.
    """
    if attention_pass is None:
        raise RuntimeError("its attention is not called as transformers' models call it")
    if unknown := [name for name in _UNSUPPORTED if others.get(name) is not None]:
        raise RuntimeError(f"its attention uses {unknown[0]}")
    output = attention_pass.attend(module.layer_idx, query, key, value, scaling, sliding_window)
    return output, None
