"""One forward pass of a model with several adapters: token ids → hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from models.engine.attention.attention import (
    ATTENTION,
    AttentionPass,
    Place,
    attend,
    merge_order,
)
from models.engine.attention.kv_cache import KVShape, reserve
from models.engine.interface import AdapterScale
from models.engine.layers.multi_lora import ActiveAdapters, RowScales
from models.engine.replay.replays import Replays
from models.engine.sampling.lm_head import ExactHead, Head

_MULTIPLES = {"cpu": 4}
"""By device, the multiple of tokens that a chunk of a prompt is filled up to, with its last token.
oneDNN compiles kernels for each number of tokens that it meets, and keeps them: 2.7 MB each."""


class LanguageModel:
    """A causal language model whose layers hold several adapters, and its output head."""

    def __init__(
        self,
        model: Any,
        adapters: ActiveAdapters,
        head: Head | None = None,
        merge_attention: bool = True,
        replay: bool = True,
    ) -> None:
        """Switch a model's attention to the engine's KV caches.

        Args:
            model: a causal language model, which cannot be called directly afterwards.
            adapters: the adapters that its layers hold.
            head: output head, hidden states → logits; None for the model's own.
            merge_attention: whether several caches may share a call of the attention kernel.
            replay: whether steps on a CPU may be replayed.
        """
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
        model.set_attn_implementation(ATTENTION)
        self.model = model
        self.adapters = adapters
        self.exact_head = ExactHead(model, adapters.head_changes)
        self.head: Head = head or self.exact_head
        self.kv_shape = KVShape.of(model, adapters.dtype)
        heads = model.config.get_text_config().num_attention_heads
        self._merge_attention = merge_attention and heads // self.kv_shape.heads % 4 == 0
        """Whether caches may share a call: see `AttentionPass`."""
        self._multiple = _MULTIPLES.get(self.kv_shape.device.type, 1)
        cuda = self.kv_shape.device.type == "cuda"
        self.replays = Replays("" if replay and not cuda else "replay is switched off")
        """The passes that are replayed."""
        self._stream = torch.cuda.Stream() if cuda else None  # type: ignore[no-untyped-call]

    def stream(self) -> AbstractContextManager[Any]:
        """Return a context in which a GPU's work runs in this model's own CUDA stream."""
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def forward(
        self,
        places: Sequence[Place],
        ids: Sequence[Sequence[int]],
        branches: Sequence[int] | None = None,
    ) -> Tensor:
        """Feed tokens at places of KV caches; return their last layer's states, (B, T, d).

        The new keys and values are written to the caches, and behind them some that nobody reads;
        the caller extends the caches' `ids`.

        Args:
            places: for each row, a cache and the position of its first token.
            ids: T token ids for each row.
            branches: see `AttentionPass`.

        Raises:
            RuntimeError: out of memory; the caches hold what they held.
        """
        length = padded = len(ids[0])
        if length > 1 and all(cache.movable for cache, _ in places):
            padded = -(-length // self._multiple) * self._multiple
        reserve({cache: start + padded for cache, start in places})
        order = merge_order(places)
        ordered = [places[n] for n in order]
        attention = AttentionPass(ordered, padded, branches, self._merge_attention)
        firsts = [attention.position(place) for place in ordered]
        device = self.kv_shape.device
        tokens = [min(n, length - 1) for n in range(padded)]
        hidden = self.hidden_states(
            torch.tensor([[ids[row][n] for n in tokens] for row in order], device=device),
            torch.tensor([[first + n for n in tokens] for first in firsts], device=device),
            [cache.adapter_scale for cache, _ in ordered],
            attention,
        )[:, :length]
        if order == sorted(order):
            return hidden
        return hidden[[order.index(n) for n in range(len(order))]]

    def hidden_states(
        self,
        ids: Tensor,
        positions: Tensor,
        rows: Sequence[AdapterScale] | Tensor,
        attention: Any,
    ) -> Tensor:
        """Run the layers, each row under its own adapter; return the last states: (B, T, d).

        Where adapters change the output head, each state is followed by its row's scales of those
        adapters, for `ExactHead`.

        Args:
            ids: (B, T).
            positions: (B, T), positions in the rows' texts.
            rows: adapter and scale of each row, see `ActiveAdapters.run`.
            attention: an `AttentionPass`, or a `StaticAttentionPass` for a static KV cache.
        """
        scales = self.adapters.scales_of(rows)
        states = self.replays(self._forward, ids, positions, scales, attention)
        if not (changes := self.adapters.head_changes):
            return states
        of_changes = scales.of_adapters[..., [change.adapter - 1 for change in changes]]
        return torch.cat([states, of_changes.expand(-1, states.shape[1], -1).to(states)], -1)

    def _forward(self, ids: Tensor, positions: Tensor, rows: RowScales, attention: Any) -> Tensor:
        """Return the last layer's states; see `hidden_states`."""
        output = self.adapters.run(
            self.model.base_model,
            rows,
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            attention_pass=attention,
        )
        states: Tensor = output.last_hidden_state
        return states
