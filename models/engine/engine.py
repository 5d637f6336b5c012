"""The engine: prefill and decode steps, token ids → the next token ids. Knows no text.

One forward pass of the base serves all sequences, each under its own adapter and from its own KV
cache. The results of a sequence do not depend on the rest of the batch. On an x86 CPU, with or
without AVX512-BF16, they are equal to the last bit, as the kernels sum a row's products in the same
order in any batch. (The exception is an output head that is one plain matrix product, neither
screened nor computed in chunks: its last bit may differ.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
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
from models.engine.prompt_lookup import MAX_GUESSES
from models.engine.sampling.lm_head import Head, ScreenedHead
from models.engine.sampling.penalties import penalised
from models.engine.sampling.sampler import sample_tokens
from models.engine.scoring import score_continuations, token_distributions
from models.engine.sequence import ActiveSequence
from models.model_info import StepCheck
from models.types import Sampling

CHUNKS = {"cpu": 64, "cuda": 512}
"""Tokens of a prefill chunk, by device; decode steps and cancellations wait for one chunk."""


class Engine:
    """A model with its adapters, and the sequences that it continues. Not thread-safe."""

    def __init__(
        self,
        model: Any,
        adapters: ActiveAdapters,
        head: Head | None = None,
        prefix_cache_tokens: int = 4096,
        options: EngineOptions = ALL_OPTIMISATIONS,
    ) -> None:
        """Prepare the engine of a causal language model whose layers hold the adapters.

        Args:
            model: the model, which only this engine can run afterwards.
            adapters: the adapters that its layers hold.
            head: output head, hidden states → logits; None for the model's own.
            prefix_cache_tokens: capacity of the prefix cache, for prompts of ended sequences.
            options: which optimisations to use.
        """
        self.lm = LanguageModel(
            model, adapters, head, options.merged_attention, options.replayed_steps
        )
        self.chunk = CHUNKS[self.lm.kv_shape.device.type]
        """Tokens of a prefill chunk."""
        self.prefix_cache = PrefixCache(prefix_cache_tokens)
        self.max_guesses = MAX_GUESSES if options.prompt_lookup else 0
        """Most tokens guessed ahead in a step, for all its sequences together."""
        self.on_step: Callable[[int, Hashable, float], None] = lambda rows, kind, seconds: None
        """Called after each step that is no static one, with its number of rows, what else its
        duration depends on, and its seconds."""
        self._shares_prefixes = options.prefix_cache
        self._static: StaticSteps | None = None
        self._active: list[ActiveSequence] = []

    def add(self, spec: SequenceSpec, sampling: Sampling) -> ActiveSequence:
        """Add a sequence, reusing the KV cache of the prefix it shares with an earlier prompt.

        Raises:
            MemoryError: every slot of the static KV cache is taken by an active sequence.
        """
        cache = self._cache_for(spec)
        sequence = ActiveSequence(spec, sampling, cache)
        self._active.append(sequence)
        return sequence

    def remove(self, sequence: ActiveSequence, keep: bool = True) -> None:
        """Remove a sequence; if `keep`, its prompt's KV cache goes into the prefix cache."""
        self._active.remove(sequence)
        if keep and self._shares_prefixes:
            self.prefix_cache.keep(sequence, self.chunk)

    @torch.inference_mode()
    def prefill(self, sequence: ActiveSequence) -> SampledToken | None:
        """Feed the next chunk of the prompt; return the first new token after the last chunk.

        Raises:
            RuntimeError: out of memory; the sequence is unchanged.
        """
        ids, cached = sequence.spec.ids, len(sequence.cache.ids)
        chunk = ids[cached : cached - cached % self.chunk + self.chunk]
        with self.lm.stream():
            hidden = self.lm.forward([(sequence.cache, cached)], [chunk])
            is_last = cached + len(chunk) == len(ids)
            tokens = self._sample([sequence], [[ids[-1]]], hidden[:, -1])[0] if is_last else []
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

        The result is not awaited, so that steps of other engines can run in parallel on a GPU.

        Returns:
            A function that waits for the next tokens of each sequence, at least one each.

        Raises:
            RuntimeError: out of memory; all sequences are unchanged.
        """
        began = time.perf_counter()
        with self.lm.stream():
            if self._static and (wait := self._static.start(sequences)):
                return wait
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
            tokens = self._sample(sequences, fed, hidden[:, -1])
            for n, (sequence, ids) in enumerate(zip(sequences, fed, strict=True)):
                right = _right_guesses(ids[1:], tokens[n])
                tokens[n] = tokens[n][: right + 1]
                sequence.cache.ids += ids[: right + 1]
                sequence.accept(tokens[n])
            sampled = sum(bool(sequence.sampling.temperature) for sequence in sequences)
            if (way := self.lm.replays.last_way) != "recorded":
                self.on_step(len(places), (sampled, way), time.perf_counter() - began)
            return lambda: tokens

    def _guess_room(
        self, sequences: Sequence[ActiveSequence]
    ) -> Iterator[tuple[ActiveSequence, int]]:
        """Yield each sequence with the number of guesses that the step has room for."""
        free = self.max_guesses
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
        """Feed each cache the next tokens of a text; return the distribution after each token.

        Args:
            caches: created by `new_cache`; they hold the earlier tokens of the texts.
            ids: the tokens to feed, equally many for each cache, as they share a pass.
            following: for each cache the same tokens shifted by one; one fewer at a text's end.
            top: number of most likely tokens to return.
            sampling: settings for the probabilities after the sampler.
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
        """Return an empty KV cache for a sequence's adapter, independent of the prefix cache."""
        return KVCache(self.lm.kv_shape, spec.adapter_scale)

    def use_static_cache(self, count: int, length: int, prompt: Sequence[int]) -> None:
        """Run decode steps in fixed shapes from now on, so that CUDA graphs can replay them.

        Args:
            count: largest number of sequences, cached prefixes included.
            length: largest number of tokens of each.
            prompt: token ids of a text on which each step is compared with the ordinary one.
        """
        self.max_guesses = 0  # guesses could outgrow a sequence's slot
        with self.lm.stream():
            cache = StaticKVCache(self.lm.kv_shape, count, length)
            self._static = StaticSteps(self.lm, cache, prompt)

    def create_static_steps(self) -> None:
        """Create and check the steps of fixed shape before sequences need them."""
        if self._static:
            with self.lm.stream():
                self._static.create_all()

    @property
    def step_checks(self) -> Sequence[StepCheck]:
        """How the steps of fixed shape compare with ordinary ones; empty if there are none."""
        return tuple(self._static.checks) if self._static else ()

    @torch.inference_mode()
    def hidden_states(self, spec: SequenceSpec, chunk_size: int | None = None) -> Tensor:
        """Return the last layer's states of all tokens of a prompt, (T, d); caches nothing.

        Args:
            spec: the prompt.
            chunk_size: tokens fed in one pass; None for the engine's own number.
        """
        cache, states, size = self.new_cache(spec), [], chunk_size or self.chunk
        for at in range(0, len(spec.ids), size):
            chunk = spec.ids[at : at + size]
            states.append(self.lm.forward([(cache, at)], [chunk])[0])
            cache.ids += chunk
        return torch.cat(states)

    def _cache_for(self, spec: SequenceSpec) -> KVCache:
        """Return a KV cache with the longest prefix of the prompt that an earlier one has."""
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
                raise MemoryError("every slot is taken")
            taken.remove(kept.pop(0))
        return slot

    def _sample(
        self,
        sequences: Sequence[ActiveSequence],
        fed: Sequence[Sequence[int]],
        hidden: Tensor,
    ) -> list[list[SampledToken]]:
        """Sample the token after each token that was fed, by sequence.

        Args:
            sequences: the sequences that were fed.
            fed: the tokens that each was fed: its last one, and those guessed to follow.
            hidden: (number of fed tokens, d), their hidden states, in order.
        """
        pairs = list(zip(sequences, fed, strict=True))
        uniforms = [uniform for sequence, ids in pairs for uniform in sequence.uniforms(len(ids))]
        samplings = [sequence.sampling for sequence, ids in pairs for _ in ids]
        tokens_seen = (
            sequence.seen(ids[1 : n + 1]) for sequence, ids in pairs for n in range(len(ids))
        )
        seen = {n: tokens for n, tokens in enumerate(tokens_seen) if tokens}
        full = [n for n, sampling in enumerate(samplings) if sampling.is_untruncated]
        truncated = [n for n, sampling in enumerate(samplings) if sampling.is_truncated]
        head = self.lm.head
        logits = head(hidden, truncated, {n: tokens.ids for n, tokens in seen.items()})
        drawn = dict[int, int]()
        if isinstance(head, ScreenedHead):
            for n in full:
                row, known = slice(n, n + 1), {}
                if n in seen:
                    values = penalised(logits[n, seen[n].ids], seen[n], samplings[n])
                    known = dict(zip(seen[n].ids.tolist(), values.tolist(), strict=True))
                draw = uniforms[n], samplings[n].temperature, known
                drawn[n] = head.sample(logits[row], hidden[row], *draw)
        ids, logprobs = sample_tokens(logits, uniforms, samplings, drawn, seen)
        tokens = map(SampledToken, ids.tolist(), logprobs.tolist())
        return [list(islice(tokens, len(ids))) for ids in fed]


def _right_guesses(guesses: Sequence[int], tokens: Sequence[SampledToken]) -> int:
    """Return how many guesses, from the first on, equal the tokens that were sampled."""
    pairs = zip(guesses, tokens, strict=False)
    return next((n for n, (id, token) in enumerate(pairs) if id != token.id), len(guesses))
