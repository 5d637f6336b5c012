"""KV caches of ended sequences, kept for prompts with the same prefix and adapter.

Only whole chunks are shared: the last bits of a chunk's keys and values depend on the chunk's
length, and an answer must not depend on earlier prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from models.engine.attention.kv_cache import KVCache
from models.engine.interface import SequenceSpec
from models.engine.sequence import ActiveSequence


class PrefixCache:
    """Kept KV caches, the least recently used first."""

    def __init__(self, max_tokens: int) -> None:
        """Start empty; `max_tokens` limits the tokens of all kept caches together."""
        self.max_tokens = max_tokens
        self.caches: list[KVCache] = []

    def keep(self, ended: ActiveSequence, chunk: int) -> None:
        """Keep the prompt's part of an ended sequence's cache; drop the least recently used.

        A prefix that another kept cache contains is not kept twice.

        Args:
            ended: the sequence.
            chunk: tokens of a prefill chunk.
        """
        cache = ended.cache
        length = min(len(cache.ids), len(ended.spec.ids)) // chunk * chunk
        if length:
            same = [kept for kept in self.caches if kept.adapter_scale == cache.adapter_scale]
            longer = next((kept for kept in same if kept.ids[:length] == cache.ids[:length]), None)
            if longer:
                self.caches.remove(longer)
                self.caches.append(longer)
            else:
                shorter = [kept for kept in same if kept.ids == cache.ids[: len(kept.ids)]]
                self.caches = [kept for kept in self.caches if kept not in shorter]
                with suppress(MemoryError, RuntimeError):  # no memory for a copy: it is not kept
                    cache.truncate(length)
                    self.caches.append(cache)
        while sum(len(kept.ids) for kept in self.caches) > self.max_tokens:
            del self.caches[0]

    def take(self, cache: KVCache) -> bool:
        """Remove a kept cache, for a sequence to extend; return False if it is not kept here."""
        if cache in self.caches:
            self.caches.remove(cache)
            return True
        return False

    def longest_prefix(
        self, spec: SequenceSpec, running: Sequence[ActiveSequence], chunk: int
    ) -> tuple[KVCache | None, int]:
        """Return the cache that shares the longest prefix with a prompt, and how many tokens.

        Args:
            spec: the prompt and its adapter.
            running: sequences whose prompts' caches may be copied, too.
            chunk: tokens of a prefill chunk.
        """
        candidates = [(cache, cache.ids) for cache in self.caches]
        candidates += [(other.cache, other.cache.ids[: len(other.spec.ids)]) for other in running]
        shared = [
            (cache, _shared_tokens(ids, spec, chunk))
            for cache, ids in candidates
            if cache.adapter_scale == spec.adapter_scale
        ]
        return max(
            (pair for pair in shared if pair[1]), key=lambda pair: pair[1], default=(None, 0)
        )


def _shared_tokens(ids: Sequence[int], spec: SequenceSpec, chunk: int) -> int:
    """Return the length in tokens of the prompt's common prefix with `ids`, in whole chunks.

    The prompt's last token is never counted: it must be fed, to sample the next one.
    """
    length = min(len(ids), len(spec.ids) - 1) // chunk * chunk
    while tuple(ids[:length]) != spec.ids[:length]:
        length -= chunk
    return length
