"""What is kept of ended prompts: another prompt that begins alike gets it, and nothing changes."""

from __future__ import annotations

from tiny_engine import NEW, PROMPTS, begin, make_engine, step, texts

from models.engine.attention.kv_cache import BLOCK
from models.engine.interface import SequenceSpec
from models.types import Sampling


def test_a_kept_prefix_changes_nothing_and_is_not_fed_again(monkeypatch, family, lanes) -> None:
    engine = make_engine(family, chunk=4, lanes=lanes)
    first, second = SequenceSpec(tuple(range(30, 50)), 1), SequenceSpec((*range(30, 45), 7, 8), 1)
    texts(engine, [first])
    fed, prefill = [], engine.prefill

    def counted(sequence):
        before = len(sequence.cache.ids)
        token = prefill(sequence)
        fed.append(len(sequence.cache.ids) - before)
        return token

    monkeypatch.setattr(engine, "prefill", counted)
    again, alike = texts(engine, [first]), texts(engine, [second])
    assert fed == [4, 4, 1]  # the last chunk of 20, and 5 of 17 tokens
    fresh = make_engine(family, chunk=4)
    assert again == texts(fresh, [first])
    assert alike == texts(make_engine(family, chunk=4), [second])


def test_a_running_row_lends_its_prefix(family, lanes) -> None:
    engine = make_engine(family, chunk=4, lanes=lanes)
    row = SequenceSpec(tuple(range(30, 50)), 2)
    lender, first = begin(engine, row, Sampling(NEW))
    for _ in range(3):
        step(engine, [lender])
    length = len(lender.cache.ids)
    borrower = engine.add(row, Sampling(NEW))
    assert (len(borrower.cache.ids), len(lender.cache.ids)) == (16, length)
    assert engine.prefill(borrower) == first


def test_another_adapter_or_strength_shares_no_prefix() -> None:
    engine = make_engine("llama", chunk=4)
    texts(engine, [SequenceSpec(tuple(range(30, 50)), 1)])
    for row in (SequenceSpec(tuple(range(30, 50)), 2), SequenceSpec(tuple(range(30, 50)), 1, 0.5)):
        assert engine.add(row, Sampling()).cache.ids == []


def test_what_is_kept_is_kept_once() -> None:
    engine = make_engine("llama", chunk=4)
    long, short = tuple(range(30, 50)), tuple(range(30, 40))
    for ids in (short, long, long, short):
        texts(engine, [SequenceSpec(ids, 1), SequenceSpec(ids, 1)])
    assert [slot.ids for slot in engine.prefix_cache.caches] == [list(long)]
    texts(
        engine,
        [SequenceSpec(long, 2), SequenceSpec(tuple(range(31, 40)), 1), SequenceSpec((9, 9), 1)],
    )
    kept = [(slot.adapter_scale.adapter, len(slot.ids)) for slot in engine.prefix_cache.caches]
    assert kept == [(1, 20), (2, 20), (1, 8)]


def test_of_what_is_kept_the_slot_that_shares_most_is_taken() -> None:
    engine = make_engine("llama", chunk=4)
    for shared in (8, 12, 4):
        texts(engine, [SequenceSpec((*range(30, 30 + shared), *range(5, 25 - shared)), 1)])
    assert len(engine.prefix_cache.caches) == 3
    running = engine.add(SequenceSpec(tuple(range(30, 50)), 1), Sampling())
    assert running.cache.ids == list(range(30, 42))


def test_where_lanes_are_few_what_was_kept_first_makes_room() -> None:
    engine = make_engine("llama", chunk=4, lanes=True)
    for first in range(5):
        texts(engine, [SequenceSpec((first, *range(30, 48)), 1)], Sampling(2))
    assert [slot.ids[0] for slot in engine.prefix_cache.caches] == [0, 1, 2, 3, 4]
    begin(engine, SequenceSpec(PROMPTS[2], 2), Sampling())
    assert [slot.ids[0] for slot in engine.prefix_cache.caches] == [1, 2, 3, 4]


def test_what_is_kept_holds_no_more_memory_than_it_needs() -> None:
    engine = make_engine("llama", chunk=16)
    texts(engine, [SequenceSpec(tuple(range(5, 37)), 1)], Sampling(90))
    (slot,) = engine.prefix_cache.caches
    assert len(slot.ids) == 32
    assert slot.capacity == -(-32 // BLOCK) * BLOCK


def test_what_is_kept_has_a_limit() -> None:
    engine = make_engine("llama", chunk=4)
    engine.prefix_cache.max_tokens = 40
    for first in range(10):
        texts(engine, [SequenceSpec((first, *range(30, 48)), 1)], Sampling(2))
    assert sum(len(slot.ids) for slot in engine.prefix_cache.caches) == 32
