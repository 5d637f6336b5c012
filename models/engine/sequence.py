"""One row while it runs: its slot, what it guesses, and the draws of its seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import Tensor

from models.engine.attention.kv_cache import KVCache
from models.engine.interface import SampledToken, SequenceSpec
from models.engine.prompt_lookup import PromptLookup
from models.types import Sampling


class ActiveSequence:
    """One row while it runs."""

    def __init__(self, row: SequenceSpec, sampling: Sampling, slot: KVCache) -> None:
        """Take a slot that may hold the first of the row's tokens already."""
        self.row = row
        self.sampling = sampling
        self.slot = slot
        self.guesses = PromptLookup(row.ids)
        self.state: Tensor | None = None
        """(1, d): what the prompt's last token left, once the prompt is in."""
        self.next_id = 0
        """The token that the next step feeds, once the prompt is in."""
        self._draws = random.Random(sampling.seed)
        self._uniforms: list[float] = []

    def uniforms(self, count: int) -> list[float]:
        """Return the draws of the next tokens; those of tokens that are not taken stay."""
        while len(self._uniforms) < count:
            self._uniforms.append(self._draws.random())
        return self._uniforms[:count]

    def take(self, picked: Sequence[SampledToken]) -> None:
        """Go on from tokens that were picked."""
        del self._uniforms[: len(picked)]
        self.next_id = picked[-1].id
        self.guesses.add([one.id for one in picked])
