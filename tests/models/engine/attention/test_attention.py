"""Attention from slots, against attention over each row's own keys and values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.engine.attention.attention import AttentionPass, merge_order
from models.engine.attention.kv_cache import KVCache, KVShape
from models.engine.prompt_lookup import MAX_GUESSES

HEADS, SIZE, WINDOW = 2, 64, 512
SHAPE = KVShape(1, HEADS, SIZE, torch.bfloat16, torch.device("cpu"))
TYPES = [torch.bfloat16, torch.float32]


@pytest.fixture(autouse=True)
def two_threads():
    """What the kernel adds in another order, it may do so with several threads only."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def filled(length: int, dtype: torch.dtype = torch.bfloat16) -> KVCache:
    """A slot that holds keys and values of that many tokens."""
    slot = KVCache(replace(SHAPE, dtype=dtype), (0, 1.0))
    slot.reserve(length)
    for tensor in slot.slices(0, length):
        tensor.copy_(torch.randn(tensor.shape))
    slot.ids = [0] * length
    return slot


def attend(places, query, key, value, window=None):
    for slot, start in places:
        slot.reserve(start + query.shape[2])
    return AttentionPass(places, query.shape[2]).attend(0, query, key, value, None, window)


def random_tokens(rows: int, group_size: int, length: int = 1, dtype: torch.dtype = torch.bfloat16):
    """Query, key and value; so many queries share a key."""
    shapes = [(rows, heads, length, SIZE) for heads in (HEADS * group_size, HEADS, HEADS)]
    return [torch.randn(shape).to(dtype) for shape in shapes]


@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("length", [1, 11, 60, 506, 511, 512, 523, 600, 1019, 1030])
def test_guesses_look_together_and_find_what_each_would_alone(length, window, group_size) -> None:
    torch.manual_seed(length)
    slot, other = filled(length), filled(40)
    for ahead in range(2, MAX_GUESSES + 2):
        places = [(slot, length + n) for n in range(ahead)] + [(other, 40)]
        query, key, value = random_tokens(len(places), group_size)
        together = attend(places, query, key, value, window)
        for n, place in enumerate(places):
            alone = attend([place], query[n, None], key[n, None], value[n, None], window)
            assert torch.equal(alone[0], together[n]), (ahead, n)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize(("window", "alike"), [(None, [3, 2]), (WINDOW, [3, 2]), (20, [3, 2])])
@pytest.mark.parametrize("ahead", [1, 3])
def test_slots_that_are_alike_look_together_and_find_what_each_would_alone(
    monkeypatch, ahead, window, alike, group_size, dtype
) -> None:
    """In a window of 20 all are shown 64 keys, but not the same ones."""
    torch.manual_seed(ahead)
    slots = [filled(length, dtype) for length in (100, 300, 90, 95, 310)]
    places = [(slot, len(slot.ids) + n) for slot in slots for n in range(ahead)]
    query, key, value = random_tokens(len(places), group_size, dtype=dtype)
    alone = [
        attend([place], query[n, None], key[n, None], value[n, None], window)[0]
        for n, place in enumerate(places)
    ]
    order = merge_order(places)
    assert [places[n][0] for n in order[::ahead]] == [slots[n] for n in (0, 2, 3, 1, 4)]
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        "models.engine.attention.attention.functional.scaled_dot_product_attention",
        lambda queries, *args, **kwargs: (
            calls.append(len(queries)) or kernel(queries, *args, **kwargs)
        ),
    )
    ordered = [places[n] for n in order]
    together = attend(ordered, query[order], key[order], value[order], window)
    for n, output in zip(order, together, strict=True):
        assert torch.equal(output, alone[n]), n
    # Queries that do not come in fours look token by token.
    assert calls == ([1] * len(places) if group_size % 4 else alike)


def test_slots_are_read_where_they_are_if_there_is_no_memory_to_move_them(monkeypatch) -> None:
    places = [(slot, 30) for slot in (filled(30), filled(30))]
    query, key, value = random_tokens(2, 4)
    expected = [
        attend([place], query[n, None], key[n, None], value[n, None])[0]
        for n, place in enumerate(places)
    ]

    def fails(caches):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr("models.engine.attention.attention.share_tensor", fails)
    assert torch.equal(attend(places, query, key, value), torch.stack(expected))


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("length", [1, 9])
def test_a_token_sees_itself_and_what_came_before_within_its_window(window, length) -> None:
    torch.manual_seed(0)
    slot = filled(30)
    query, key, value = random_tokens(1, 2, length)
    output = attend([(slot, 30)], query, key, value, window)
    keys, values = (tensor[0] for tensor in slot.slices(0, 30 + length))
    for n in range(length):
        first = max(0, 31 + n - window) if window else 0
        seen = [tensor[:, first : 31 + n].repeat_interleave(2, 0) for tensor in (keys, values)]
        expected = functional.scaled_dot_product_attention(query[0, :, n, None], *seen)
        torch.testing.assert_close(output[0, n], expected[:, 0], rtol=0.02, atol=0.02)


def test_what_a_slot_has_not_been_given_is_never_seen() -> None:
    slot = filled(5)
    query, key, value = random_tokens(1, 2)
    before = attend([(slot, 5)], query, key, value)
    for tensor in slot.slices(6, 64):
        tensor.fill_(1e4)
    assert torch.equal(attend([(slot, 5)], query, key, value), before)


def test_what_a_slot_has_room_for_is_finite_before_it_is_filled(monkeypatch) -> None:
    monkeypatch.setattr(
        torch, "empty", lambda *shape, **kwargs: torch.full(*shape, torch.nan, **kwargs)
    )
    slot = KVCache(SHAPE, (0, 1.0))
    for length in (3, 200):
        slot.reserve(length)
        assert all(tensor.isfinite().all() for tensor in slot.slices(0, length + 64))
