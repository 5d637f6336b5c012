"""A running sequence: its KV cache, the tokens guessed ahead, and its random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from models.engine.attention.kv_cache import KVCache
from models.engine.interface import SampledToken, SequenceSpec
from models.engine.prompt_lookup import PromptLookup
from models.engine.sampling.penalties import SeenTokens
from models.types import Sampling


class ActiveSequence:
    """A running sequence."""

    def __init__(self, spec: SequenceSpec, sampling: Sampling, cache: KVCache) -> None:
        """Start with a KV cache that may hold the first tokens of the prompt already."""
        self.spec = spec
        self.sampling = sampling
        self.cache = cache
        self.lookup = PromptLookup(spec.ids)
        self.last_state: Tensor | None = None
        """(1, d): hidden state of the prompt's last token; None until the prompt is prefilled."""
        self.next_id = 0
        """The token that the next step feeds, once the prompt is prefilled."""
        self._random = random.Random(sampling.seed)
        self._uniforms: list[float] = []
        self._counts = dict.fromkeys(spec.ids if sampling.is_penalised else (), 0)
        """For each token of prompt and answer how often it is in the answer, if penalties count."""

    def uniforms(self, count: int) -> list[float]:
        """Return the random numbers in [0, 1) for the next `count` tokens.

        Numbers of tokens that are not accepted are returned again, so that guessing ahead does not
        change what is sampled.
        """
        while len(self._uniforms) < count:
            self._uniforms.append(self._random.random())
        return self._uniforms[:count]

    def seen(self, guesses: Sequence[int]) -> SeenTokens | None:
        """Return the tokens of prompt, answer and guesses; None if there are no penalties."""
        if not self.sampling.is_penalised:
            return None
        counts = dict(self._counts)
        for id in guesses:
            counts[id] = counts.get(id, 0) + 1
        return SeenTokens(
            torch.tensor(list(counts)), torch.tensor(list(counts.values()), dtype=torch.float32)
        )

    def accept(self, tokens: Sequence[SampledToken]) -> None:
        """Append sampled tokens, at least one."""
        del self._uniforms[: len(tokens)]
        self.next_id = tokens[-1].id
        self.lookup.append([token.id for token in tokens])
        if self.sampling.is_penalised:
            for token in tokens:
                self._counts[token.id] = self._counts.get(token.id, 0) + 1
