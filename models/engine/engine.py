"""Rows of ids → the next ids of each row, step by step. Knows ids, not text.

One pass of the base serves all rows, each under its own adapter, from its own slot of keys and
values. Every number of a row is computed as it would be alone: on an x86 CPU, AVX512-BF16 or not,
to the last bit, for its kernels sum a row's products in one order whatever stands beside it. (An
output head of its own product, that is neither screened nor in parts, may differ in a last bit.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from models.engine.attention.attention import ATTENTION, AttentionPass, attend, merge_order
from models.engine.attention.kv_cache import KVCache, KVShape
from models.engine.cuda.cuda_graph import StaticSteps
from models.engine.cuda.static_kv_cache import StaticKVCache
from models.engine.interface import SampledToken, SequenceSpec, TokenIdDistribution
from models.engine.layers.multi_lora import ActiveAdapters
from models.engine.prefix_cache import PrefixCache
from models.engine.sampling.lm_head import ExactHead, Head, ScreenedHead
from models.engine.sampling.sampler import sample_tokens
from models.engine.scoring import expected, rank
from models.engine.sequence import ActiveSequence
from models.types import Sampling

STEP_ROWS = 24
"""Rows that guesses may fill a step up to: beyond, they are right too seldom to pay."""
CHUNKS = {"cpu": 64, "cuda": 512}
"""Tokens of a prompt that one pass takes: others wait that long, and a stop comes that late."""


class Engine:
    """One model with its stacked adapters. Not to be used from two threads at once."""

    def __init__(
        self, model: Any, carried: ActiveAdapters, head: Head | None = None, kept_tokens: int = 4096
    ) -> None:
        """Take a causal language model whose adapters are folded into its layers.

        Args:
            model: is changed: it answers through this engine only.
            carried: what the model's stacked layers read.
            head: hidden states to logits; the model's own, if None.
            kept_tokens: for how many tokens of ended rows keys and values are kept.
        """
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
        model.set_attn_implementation(ATTENTION)
        self.model = model
        self.carried = carried
        self.exact_head = ExactHead(model)
        self.head = head or self.exact_head
        self.shape = KVShape.of(model, carried.dtype)
        self.chunk = CHUNKS[self.shape.device.type]
        self.prefixes = PrefixCache(kept_tokens)
        self.step_rows = STEP_ROWS
        """Rows of a step up to which guesses fill it; 0 for no guesses."""
        cuda = self.shape.device.type == "cuda"
        self._own = torch.cuda.Stream() if cuda else None  # type: ignore[no-untyped-call]
        self._steps: StaticSteps | None = None
        self._running: list[ActiveSequence] = []

    def begin(self, row: SequenceSpec, sampling: Sampling) -> ActiveSequence:
        """Give the row a slot, with the keys and values of what it shares with another.

        Raises:
            MemoryError: every lane is taken by a running row.
        """
        other, shared = self.prefixes.alike(row, self._running, self.chunk)
        if other and shared == len(other.fed) and self.prefixes.take(other):
            slot = other
        else:
            slot = self._new_slot(row.carries)
            if other:
                with self.stream():
                    slot.copy_prefix(other, shared)
        running = ActiveSequence(row, sampling, slot)
        self._running.append(running)
        return running

    def end(self, running: ActiveSequence, keep: bool = True) -> None:
        """Take the row out; what its prompt holds is kept for one that begins alike."""
        self._running.remove(running)
        if keep:
            self.prefixes.keep(running, self.chunk)

    @torch.inference_mode()
    def prefill(self, running: ActiveSequence) -> SampledToken | None:
        """Feed the next chunk of the row's prompt; returns the first token after the last chunk.

        Raises:
            RuntimeError: there is not the memory for it; the row is as it was.
        """
        ids, held = running.row.ids, len(running.slot.fed)
        chunk = ids[held : held - held % self.chunk + self.chunk]
        with self.stream():
            hidden = self._feed([(running.slot, held)], [chunk])
            last = held + len(chunk) == len(ids)
            picked = self._pick([running], [1], hidden[:, -1])[0] if last else []
            running.slot.fed += chunk
            if not last:
                return None
            running.state = hidden[:, -1].clone()
            running.take(picked)
            return picked[0]

    @torch.inference_mode()
    def launch(self, rows: Sequence[ActiveSequence]) -> Callable[[], list[list[SampledToken]]]:
        """Begin a step: feed each row its last token, and what it guesses to come.

        Begun, so that other engines' steps may run beside it on a GPU.

        Returns:
            What waits for the next tokens of each row, one at least.

        Raises:
            RuntimeError: there is not the memory for it; all rows are as they were.
        """
        with self.stream():
            if self._steps:
                return self._steps.launch(rows)
            ahead = [[row.next_id, *row.guesses.next(n)] for row, n in self._room(rows)]
            places = [
                (row.slot, len(row.slot.fed) + n)
                for row, ids in zip(rows, ahead, strict=True)
                for n in range(len(ids))
            ]
            hidden = self._feed(places, [(id,) for ids in ahead for id in ids])
            picked = self._pick(rows, [len(ids) for ids in ahead], hidden[:, -1])
            for n, (row, ids) in enumerate(zip(rows, ahead, strict=True)):
                pairs = zip(ids[1:], picked[n], strict=False)
                right = next((k for k, (id, one) in enumerate(pairs) if id != one.id), len(ids) - 1)
                picked[n] = picked[n][: right + 1]
                row.slot.fed += ids[: right + 1]
                row.take(picked[n])
            return lambda: picked

    def _room(self, rows: Sequence[ActiveSequence]) -> Iterator[tuple[ActiveSequence, int]]:
        """Yield each row with the number of guesses that a step has room for."""
        free = max(0, self.step_rows - len(rows))
        for n, row in enumerate(rows):
            share = free // (len(rows) - n)
            yield row, share
            free -= len(row.guesses.next(share))

    @torch.inference_mode()
    def rank(self, running: ActiveSequence, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each continuation of a prompt that has just come in."""
        assert running.state is not None
        with self.stream():
            return rank(
                self._feed, self.exact_head, running.slot, running.state, continuations, self.chunk
            )

    @torch.inference_mode()
    def read(
        self,
        slots: Sequence[KVCache],
        ids: Sequence[Sequence[int]],
        following: Sequence[Sequence[int]],
        count: int,
        sampling: Sampling,
    ) -> list[list[TokenIdDistribution]]:
        """Feed each slot the next tokens of a text, and return what is expected after each.

        Args:
            slots: of `new_slot`; they hold what came before.
            ids: the tokens to feed; of equal length, for they share a pass.
            following: for each of them the tokens one place on; one less at a text's end.
            count: how many of the likeliest tokens are told.
            sampling: for the distribution that a draw would be made from.
        """
        with self.stream():
            states = self._feed([(slot, len(slot.fed)) for slot in slots], ids)
            for slot, one in zip(slots, ids, strict=True):
                slot.fed += one
            length = len(ids[0])
            came = [id for then in following for id in (*then, *[None] * (length - len(then)))]
            found = iter(expected(self.exact_head, states.flatten(0, 1), came, count, sampling))
            return [list(islice(found, length)) for _ in slots]

    def new_slot(self, row: SequenceSpec) -> KVCache:
        """Return an empty slot under a row's adapter; nobody else is given what it holds."""
        return KVCache(self.shape, row.carries)

    def use_lanes(self, count: int, length: int) -> None:
        """Give rows lanes of one length, and steps one shape: what a CUDA graph can hold."""
        with self.stream():
            self._steps = StaticSteps(self, StaticKVCache(self.shape, count, length))

    @torch.inference_mode()
    def hidden(self, row: SequenceSpec) -> Tensor:
        """Return the last hidden states of all of a row's tokens, (T, d); nothing is kept."""
        slot, states = KVCache(self.shape, row.carries), []
        for at in range(0, len(row.ids), self.chunk):
            states.append(self._feed([(slot, at)], [row.ids[at : at + self.chunk]])[0])
            slot.fed += row.ids[at : at + self.chunk]
        return torch.cat(states)

    def _new_slot(self, carries: tuple[int, float]) -> KVCache:
        if not self._steps:
            return KVCache(self.shape, carries)
        kept = self.prefixes.slots
        taken = [*kept, *(running.slot for running in self._running)]
        while not (lane := self._steps.lanes.take(carries, taken)):
            if not kept:
                raise MemoryError("every lane is taken")
            taken.remove(kept.pop(0))
        return lane

    def stream(self) -> AbstractContextManager[Any]:
        """Have a GPU run what follows in this engine's own stream."""
        return torch.cuda.stream(self._own) if self._own else nullcontext()

    def _feed(
        self,
        places: Sequence[tuple[KVCache, int]],
        ids: Sequence[Sequence[int]],
        branches: Sequence[int] | None = None,
    ) -> Tensor:
        """Run the model on what follows at each place, a slot and a place in it; (B, T, d)."""
        length, device = len(ids[0]), self.shape.device
        for slot, start in places:
            slot.reserve(start + length)
        order = merge_order(places)
        ordered = [places[n] for n in order]
        self.carried.select([slot.carries for slot, _ in ordered])
        run = AttentionPass(ordered, length, branches)
        firsts = [run.position(place) for place in ordered]
        positions = [list(range(first, first + length)) for first in firsts]
        hidden: Tensor = self.model.base_model(
            input_ids=torch.tensor([ids[n] for n in order], device=device),
            position_ids=torch.tensor(positions, device=device),
            use_cache=False,
            slots=run,
        ).last_hidden_state
        if order == sorted(order):
            return hidden
        return hidden[[order.index(n) for n in range(len(order))]]

    def _pick(
        self, rows: Sequence[ActiveSequence], counts: Sequence[int], hidden: Tensor
    ) -> list[list[SampledToken]]:
        """Return what each row picks at each of its places, one after the other in `hidden`."""
        uniforms = [one for row, n in zip(rows, counts, strict=True) for one in row.uniforms(n)]
        samplings = [row.sampling for row, n in zip(rows, counts, strict=True) for _ in range(n)]
        from_all = [n for n, one in enumerate(samplings) if one.draws_from_all]
        narrow = [n for n, one in enumerate(samplings) if one.temperature and n not in from_all]
        logits, drawn = self.head(hidden, narrow), dict[int, int]()
        if isinstance(self.head, ScreenedHead):
            for n in from_all:
                row, how = slice(n, n + 1), (uniforms[n], samplings[n].temperature)
                drawn[n] = self.head.draw(logits[row], hidden[row], *how)
        ids, logprobs = sample_tokens(logits, uniforms, samplings, drawn)
        each = map(SampledToken, ids.tolist(), logprobs.tolist())
        return [list(islice(each, n)) for n in counts]
