"""KV caches that share a tensor: what each holds stays, and no more memory is held than is used."""

from __future__ import annotations

import pytest
import torch

from models.engine.attention import kv_cache
from models.engine.attention.kv_cache import BLOCK, KVCache, KVShape, reserve, share_tensor

SHAPE = KVShape(layers=2, heads=1, size=8, dtype=torch.float32, device=torch.device("cpu"))


def filled(*lengths: int) -> list[KVCache]:
    """Caches of so many tokens, each with numbers of its own."""
    caches = [KVCache(SHAPE, (0, 1.0)) for _ in lengths]
    for number, (cache, length) in enumerate(zip(caches, lengths, strict=True)):
        cache.reserve(length)
        for view in cache.slices(0, length):
            view.fill_(number + 1)
        cache.ids = [0] * length
    return caches


def assert_kept(caches) -> None:
    for number, cache in enumerate(caches):
        for view in cache.slices(0, len(cache.ids)):
            assert torch.equal(view, torch.full_like(view, number + 1))
        assert all(view.isfinite().all() for view in cache.slices(0, cache.capacity))


def test_caches_of_any_length_share_a_tensor_and_keep_what_they_hold() -> None:
    caches = filled(3, 70, 0, 130)
    share_tensor(caches)
    assert len({id(cache.tensor) for cache in caches}) == 1
    assert sorted(cache.row for cache in caches) == [0, 1, 2, 3]
    assert_kept(caches)


def test_caches_that_share_a_tensor_grow_together() -> None:
    caches = filled(60, 61, 62)
    share_tensor(caches)
    reserve(dict(zip(caches, (130, 131, 900), strict=True)))
    assert len({id(cache.tensor) for cache in caches}) == 1
    assert all(900 <= cache.capacity < 1200 for cache in caches)
    assert_kept(caches)


def test_a_cache_grows_alone_where_there_is_no_memory_for_all(monkeypatch) -> None:
    caches, zeros = filled(60, 61, 62), kv_cache._zeros
    share_tensor(caches)

    def short_of_memory(shape, rows, capacity):
        if rows > 1:
            raise RuntimeError("not enough memory")
        return zeros(shape, rows, capacity)

    monkeypatch.setattr(kv_cache, "_zeros", short_of_memory)
    reserve(dict(zip(caches, (63, 200, 62), strict=True)))
    assert caches[1].tensor is not caches[0].tensor
    assert caches[1].capacity >= 200
    assert_kept(caches)


def test_long_caches_grow_alone_and_are_not_moved() -> None:
    longest = kv_cache._MAX_SHARED
    caches = filled(longest - 1, longest - 1)
    share_tensor(caches)
    reserve(dict.fromkeys(caches, longest + 600))
    share_tensor(caches)
    assert caches[0].tensor is not caches[1].tensor
    assert_kept(caches)


def test_one_of_many_leaves_a_tensor_whose_others_have_ended() -> None:
    caches = filled(*[20] * 12)
    share_tensor(caches)
    share_tensor(caches[:3])
    assert caches[0].tensor.shape[1] == 12  # a quarter of it
    share_tensor(caches[:2])
    assert caches[0].tensor.shape[1] == 2
    assert_kept(caches)


def test_a_move_without_memory_changes_nothing(monkeypatch) -> None:
    caches = filled(3, 4)
    tensors = [cache.tensor for cache in caches]

    def fails(*args, **kwargs):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(torch, "zeros", fails)
    with pytest.raises(RuntimeError, match="memory"):
        share_tensor(caches)
    assert all(cache.tensor is tensor for cache, tensor in zip(caches, tensors, strict=True))
    assert_kept(caches)


def test_truncating_leaves_the_shared_tensor() -> None:
    caches = filled(100, 100)
    share_tensor(caches)
    caches[0].truncate(64)
    assert caches[0].tensor.shape[1:4:2] == (1, BLOCK)
    assert_kept(caches)
