"""Prefill and decode steps of sequences: token ids → the next token ids. Knows no text.

One forward pass of the base serves all sequences, each under its own adapter, from its own KV
cache. Every number of a sequence is computed as it would be alone: on an x86 CPU, AVX512-BF16 or
not, to the last bit, for its kernels sum a row's products in one order whatever the batch. (An
output head of its own product, that is neither screened nor in chunks, may differ in a last bit.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from models.engine.attention.kv_cache import KVCache
from models.engine.cuda.cuda_graph import StaticSteps
from models.engine.cuda.static_kv_cache import StaticKVCache
from models.engine.interface import (
    AdapterScale,
    SampledToken,
    SequenceSpec,
    TokenIdDistribution,
)
from models.engine.language_model import LanguageModel
from models.engine.layers.multi_lora import ActiveAdapters
from models.engine.options import ALL_OPTIMISATIONS, EngineOptions
from models.engine.prefix_cache import PrefixCache
from models.engine.sampling.lm_head import Head, ScreenedHead
from models.engine.sampling.sampler import sample_tokens
from models.engine.scoring import score_continuations, token_distributions
from models.engine.sequence import ActiveSequence
from models.types import Sampling

MAX_STEP_ROWS = 24
"""Rows that guesses may fill a step up to: beyond, they are right too seldom to pay."""
CHUNKS = {"cpu": 64, "cuda": 512}
"""Tokens of a prefill chunk: others wait that long for a step, and a stop comes that late."""


class Engine:
    """A model with its adapters, and the sequences that it continues. For one thread at a time."""

    def __init__(
        self,
        model: Any,
        adapters: ActiveAdapters,
        head: Head | None = None,
        kept_tokens: int = 4096,
        options: EngineOptions = ALL_OPTIMISATIONS,
    ) -> None:
        """Make an engine of a causal language model whose layers hold the adapters.

        Args:
            model: it answers through this engine only from now on.
            adapters: the adapters that its layers hold.
            head: hidden states → logits; the model's own, if None.
            kept_tokens: tokens of KV cache that are kept of ended sequences' prompts.
            options: which optimisations to use.
        """
        self.lm = LanguageModel(model, adapters, head, options.merged_attention)
        self.chunk = CHUNKS[self.lm.kv_shape.device.type]
        """Tokens of a prefill chunk."""
        self.prefix_cache = PrefixCache(kept_tokens)
        self.max_step_rows = MAX_STEP_ROWS if options.prompt_lookup else 0
        """Rows of a step up to which guessed tokens fill it; 0 for no guesses."""
        self._shares_prefixes = options.prefix_cache
        self._static: StaticSteps | None = None
        self._active: list[ActiveSequence] = []

    def add(self, spec: SequenceSpec, sampling: Sampling) -> ActiveSequence:
        """Add a sequence, with the KV cache of what its prompt shares with an earlier one.

        Raises:
            MemoryError: every slot of the static KV cache is taken by an active sequence.
        """
        cache = self._cache_for(spec)
        sequence = ActiveSequence(spec, sampling, cache)
        self._active.append(sequence)
        return sequence

    def remove(self, sequence: ActiveSequence, keep: bool = True) -> None:
        """Remove a sequence; if `keep`, its prompt's KV cache is kept for one that begins alike."""
        self._active.remove(sequence)
        if keep and self._shares_prefixes:
            self.prefix_cache.keep(sequence, self.chunk)

    @torch.inference_mode()
    def prefill(self, sequence: ActiveSequence) -> SampledToken | None:
        """Feed the next chunk of the prompt; returns the first new token after the last chunk.

        Raises:
            RuntimeError: there is not the memory for it; the sequence is as it was.
        """
        ids, cached = sequence.spec.ids, len(sequence.cache.ids)
        chunk = ids[cached : cached - cached % self.chunk + self.chunk]
        with self.lm.stream():
            hidden = self.lm.forward([(sequence.cache, cached)], [chunk])
            is_last = cached + len(chunk) == len(ids)
            tokens = self._sample([sequence], [1], hidden[:, -1])[0] if is_last else []
            sequence.cache.ids += chunk
            if not is_last:
                return None
            sequence.last_state = hidden[:, -1].clone()
            sequence.accept(tokens)
            return tokens[0]

    @torch.inference_mode()
    def start_step(
        self, sequences: Sequence[ActiveSequence]
    ) -> Callable[[], list[list[SampledToken]]]:
        """Start a decode step: feed each sequence its last token, and the tokens guessed to follow.

        Started and not awaited, so that other engines' steps may run beside it on a GPU.

        Returns:
            A function that waits for the next tokens of each sequence, one at least.

        Raises:
            RuntimeError: there is not the memory for it; all sequences are as they were.
        """
        with self.lm.stream():
            if self._static:
                return self._static.start(sequences)
            fed = [
                [sequence.next_id, *sequence.lookup.guesses(room)]
                for sequence, room in self._guess_room(sequences)
            ]
            places = [
                (sequence.cache, len(sequence.cache.ids) + n)
                for sequence, ids in zip(sequences, fed, strict=True)
                for n in range(len(ids))
            ]
            hidden = self.lm.forward(places, [(id,) for ids in fed for id in ids])
            tokens = self._sample(sequences, [len(ids) for ids in fed], hidden[:, -1])
            for n, (sequence, ids) in enumerate(zip(sequences, fed, strict=True)):
                right = _right_guesses(ids[1:], tokens[n])
                tokens[n] = tokens[n][: right + 1]
                sequence.cache.ids += ids[: right + 1]
                sequence.accept(tokens[n])
            return lambda: tokens

    def _guess_room(
        self, sequences: Sequence[ActiveSequence]
    ) -> Iterator[tuple[ActiveSequence, int]]:
        """Yield each sequence with the number of guesses that the step has room for."""
        free = max(0, self.max_step_rows - len(sequences))
        for n, sequence in enumerate(sequences):
            room = free // (len(sequences) - n)
            yield sequence, room
            free -= len(sequence.lookup.guesses(room))

    @torch.inference_mode()
    def score_continuations(
        self, sequence: ActiveSequence, continuations: Sequence[Sequence[int]]
    ) -> list[float]:
        """Return the log-probability of each continuation of a prompt that was just prefilled."""
        assert sequence.last_state is not None
        with self.lm.stream():
            return score_continuations(
                self.lm, sequence.cache, sequence.last_state, continuations, self.chunk
            )

    @torch.inference_mode()
    def score_chunk(
        self,
        caches: Sequence[KVCache],
        ids: Sequence[Sequence[int]],
        following: Sequence[Sequence[int]],
        top: int,
        sampling: Sampling,
    ) -> list[list[TokenIdDistribution]]:
        """Feed each cache the next tokens of a text; returns the distribution after each token.

        Args:
            caches: of `new_cache`; they hold what came before.
            ids: the tokens to feed, equally many for each cache, for they share a pass.
            following: for each cache the tokens one place on; one fewer at a text's end.
            top: how many of the most likely tokens to return.
            sampling: for the probabilities after the sampler.
        """
        with self.lm.stream():
            states = self.lm.forward([(cache, len(cache.ids)) for cache in caches], ids)
            for cache, chunk in zip(caches, ids, strict=True):
                cache.ids += chunk
            length = len(ids[0])
            targets = [id for then in following for id in (*then, *[None] * (length - len(then)))]
            distributions = iter(
                token_distributions(
                    self.lm.exact_head, states.flatten(0, 1), targets, top, sampling
                )
            )
            return [list(islice(distributions, length)) for _ in caches]

    def new_cache(self, spec: SequenceSpec) -> KVCache:
        """Return an empty KV cache under a sequence's adapter, shared with no other."""
        return KVCache(self.lm.kv_shape, spec.adapter_scale)

    def use_static_cache(self, count: int, length: int) -> None:
        """Have all steps one shape, which a CUDA graph can hold.

        Args:
            count: sequences at most, kept prefixes included.
            length: tokens of each at most.
        """
        with self.lm.stream():
            self._static = StaticSteps(self.lm, StaticKVCache(self.lm.kv_shape, count, length))

    @torch.inference_mode()
    def hidden_states(self, spec: SequenceSpec) -> Tensor:
        """Return the last hidden states of all tokens of a prompt, (T, d); nothing is kept."""
        cache, states = self.new_cache(spec), []
        for at in range(0, len(spec.ids), self.chunk):
            chunk = spec.ids[at : at + self.chunk]
            states.append(self.lm.forward([(cache, at)], [chunk])[0])
            cache.ids += chunk
        return torch.cat(states)

    def _cache_for(self, spec: SequenceSpec) -> KVCache:
        """Return a KV cache that holds as much of the prompt as an earlier one can give."""
        other, shared = None, 0
        if self._shares_prefixes:
            other, shared = self.prefix_cache.longest_prefix(spec, self._active, self.chunk)
        if other and shared == len(other.ids) and self.prefix_cache.take(other):
            return other
        cache = self._empty_cache(spec.adapter_scale)
        if other:
            with self.lm.stream():
                cache.copy_prefix(other, shared)
        return cache

    def _empty_cache(self, adapter_scale: AdapterScale) -> KVCache:
        if not self._static:
            return KVCache(self.lm.kv_shape, adapter_scale)
        kept = self.prefix_cache.caches
        taken = [*kept, *(sequence.cache for sequence in self._active)]
        while not (slot := self._static.cache.take(adapter_scale, taken)):
            if not kept:
                raise MemoryError("every lane is taken")
            taken.remove(kept.pop(0))
        return slot

    def _sample(
        self, sequences: Sequence[ActiveSequence], counts: Sequence[int], hidden: Tensor
    ) -> list[list[SampledToken]]:
        """Return the tokens that each sequence samples after its fed tokens.

        Args:
            sequences: whose tokens were fed.
            counts: how many tokens were fed of each.
            hidden: (sum of the counts, d), the states that they left, one after the other.
        """
        pairs = list(zip(sequences, counts, strict=True))
        uniforms = [uniform for sequence, n in pairs for uniform in sequence.uniforms(n)]
        samplings = [sequence.sampling for sequence, n in pairs for _ in range(n)]
        full = [n for n, sampling in enumerate(samplings) if sampling.draws_from_all]
        truncated = [n for n, sampling in enumerate(samplings) if sampling.truncates]
        head = self.lm.head
        logits, drawn = head(hidden, truncated), dict[int, int]()
        if isinstance(head, ScreenedHead):
            for n in full:
                row, draw = slice(n, n + 1), (uniforms[n], samplings[n].temperature)
                drawn[n] = head.sample(logits[row], hidden[row], *draw)
        ids, logprobs = sample_tokens(logits, uniforms, samplings, drawn)
        tokens = map(SampledToken, ids.tolist(), logprobs.tolist())
        return [list(islice(tokens, n)) for n in counts]


def _right_guesses(guesses: Sequence[int], tokens: Sequence[SampledToken]) -> int:
    """Return how many guesses are the tokens that were sampled in their places."""
    pairs = zip(guesses, tokens, strict=False)
    return next((n for n, (id, token) in enumerate(pairs) if id != token.id), len(guesses))
