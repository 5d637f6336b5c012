"""Prompts that begin alike: what an ended row's slot holds of its prompt serves the next.

Only whole chunks are shared. A chunk's numbers depend, in their last bits, on the chunk's length;
and an answer must not depend on what was asked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from models.engine.attention.kv_cache import KVCache
from models.engine.interface import SequenceSpec
from models.engine.sequence import ActiveSequence


class PrefixCache:
    """Slots of ended rows, and how much of them, or of running ones, a prompt can be given."""

    def __init__(self, tokens: int) -> None:
        """Take the number of tokens whose keys and values are kept."""
        self.tokens = tokens
        self.slots: list[KVCache] = []
        """The one that was used last at the end."""

    def keep(self, ended: ActiveSequence, chunk: int) -> None:
        """Keep what an ended row's slot holds of its prompt, and let go what was used long ago.

        What another holds already is not held twice.
        """
        slot = ended.slot
        whole = min(len(slot.fed), len(ended.row.ids)) // chunk * chunk
        same = [one for one in self.slots if one.carries == slot.carries] if whole else []
        if longer := next((one for one in same if one.fed[:whole] == slot.fed[:whole]), None):
            self.slots.remove(longer)
            self.slots.append(longer)
        elif whole:
            shorter = [one for one in same if one.fed == slot.fed[: len(one.fed)]]
            self.slots = [one for one in self.slots if one not in shorter]
            with suppress(MemoryError, RuntimeError):  # no room to keep it: then it is not kept
                slot.cut(whole)
                self.slots.append(slot)
        while sum(len(slot.fed) for slot in self.slots) > self.tokens:
            del self.slots[0]

    def take(self, slot: KVCache) -> bool:
        """Give a slot away whole; whether it was one of these."""
        if slot in self.slots:
            self.slots.remove(slot)
            return True
        return False

    def alike(
        self, row: SequenceSpec, running: Sequence[ActiveSequence], chunk: int
    ) -> tuple[KVCache | None, int]:
        """Return the slot that shares most with a row's prompt, and how many tokens of it."""
        found = [(slot, _common(slot.fed, row, chunk)) for slot in self.slots]
        found += [
            (one.slot, _common(one.slot.fed[: len(one.row.ids)], row, chunk)) for one in running
        ]
        alike = [one for one in found if one[0].carries == row.carries and one[1]]
        return max(alike, key=lambda one: one[1], default=(None, 0))


def _common(held: Sequence[int], row: SequenceSpec, chunk: int) -> int:
    """Return how many tokens of the row's prompt another slot can give it, in whole chunks.

    The last token of a prompt is fed in any case.
    """
    length = min(len(held), len(row.ids) - 1) // chunk * chunk
    while tuple(held[:length]) != row.ids[:length]:
        length -= chunk
    return length
