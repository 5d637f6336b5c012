"""The engine, against transformers' own `generate` under PEFT, in float32 on tiny random models."""

from __future__ import annotations

import gc

import pytest
import torch
from tiny_engine import (
    NEW,
    PROMPTS,
    ROWS,
    WARM,
    begin,
    generated,
    make_engine,
    make_model,
    step,
    texts,
)

from models.engine import reference
from models.engine.interface import BASE, SequenceSpec
from models.types import Sampling


def test_each_row_says_what_generate_says_alone(family, lanes) -> None:
    expected = [generated(family, row.adapter, row.ids) for row in ROWS]
    assert texts(make_engine(family, lanes=lanes), ROWS) == expected
    assert len({tuple(text) for text in expected}) == 3  # or the adapters would prove nothing


def test_the_reference_says_what_generate_says(family) -> None:
    model, carried = make_model(family)
    sequences = reference.generate(model, carried, ROWS, Sampling(NEW))
    expected = [generated(family, row.adapter, row.ids) for row in ROWS]
    assert [[token.id for token in text] for text in sequences] == expected


def test_a_seed_draws_what_the_reference_draws(family, lanes) -> None:
    sequences = reference.generate(*make_model(family), ROWS, WARM)
    assert texts(make_engine(family, lanes=lanes), ROWS, WARM) == [
        [token.id for token in text] for text in sequences
    ]


def test_a_batch_says_what_its_rows_say_alone(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    assert texts(engine, ROWS) == [texts(engine, [row])[0] for row in ROWS]


def test_the_order_of_rows_changes_nothing(family) -> None:
    engine = make_engine(family)
    assert texts(engine, ROWS[::-1]) == texts(engine, ROWS)[::-1]


def test_a_seed_draws_the_same_text_in_any_company() -> None:
    engine = make_engine("llama")
    assert texts(engine, ROWS, WARM) == [texts(engine, [row], WARM)[0] for row in ROWS]
    assert texts(engine, ROWS, WARM) != texts(engine, ROWS, Sampling(NEW, 1.0, 0.9, seed=8))


def test_rows_of_one_step_keep_their_own_settings(lanes) -> None:
    engine = make_engine("llama", lanes=lanes)
    settings = [Sampling(NEW), WARM, Sampling(NEW, 0.7, top_k=5, seed=3)]
    alone = [
        texts(engine, [row], sampling)[0] for row, sampling in zip(ROWS, settings, strict=True)
    ]
    begun = [begin(engine, row, sampling) for row, sampling in zip(ROWS, settings, strict=True)]
    sequences = [[first.id] for _, first in begun]
    for _ in range(NEW - 1):
        for text, picked in zip(sequences, step(engine, [row for row, _ in begun]), strict=True):
            text.append(picked.id)
    assert sequences == alone


def test_chunks_are_filled_up_to_a_few_lengths(monkeypatch) -> None:
    engine, passes = make_engine("llama"), []
    forward = engine.lm._forward

    def noted(ids, positions, *others):
        passes.append((ids.shape[1], int(positions.max())))
        return forward(ids, positions, *others)

    monkeypatch.setattr(engine.lm, "_forward", noted)
    for length in (1, 2, 5, 8):
        engine.remove(begin(engine, SequenceSpec(tuple(range(4, 4 + length))), Sampling(1))[0])
    assert passes == [(1, 0), (4, 1), (8, 4), (8, 7)]


def test_a_prompt_in_chunks_says_the_same(family) -> None:
    assert texts(make_engine(family, chunk=4), ROWS) == texts(make_engine(family), ROWS)


def test_a_row_that_ends_leaves_the_others_text_as_it_was(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    whole = texts(engine, ROWS)
    begun = [begin(engine, row, Sampling(NEW)) for row in ROWS]
    sequences = {n: [first.id] for n, (_, first) in enumerate(begun)}
    running = dict(enumerate(row for row, _ in begun))
    for number in range(1, NEW):
        for gone in {3: [1], 9: [0]}.get(number, []):
            engine.remove(running.pop(gone))
        for n, token in zip(running, step(engine, list(running.values())), strict=True):
            sequences[n].append(token.id)
    assert sequences == {0: whole[0][:9], 1: whole[1][:3], 2: whole[2]}


def test_a_row_that_joins_changes_nothing_for_the_others(lanes) -> None:
    engine = make_engine("gemma3", lanes=lanes)
    whole = texts(engine, ROWS)
    first, token = begin(engine, ROWS[0], Sampling(NEW))
    sequences = [[token.id], []]
    for _ in range(5):
        sequences[0].append(step(engine, [first])[0].id)
    second, token = begin(engine, ROWS[1], Sampling(NEW))
    sequences[1].append(token.id)
    for _ in range(8):
        for text, token in zip(sequences, step(engine, [first, second]), strict=True):
            text.append(token.id)
    assert sequences == [whole[0][:14], whole[1][:9]]


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan")])
def test_a_strength_out_of_range_is_refused(strength) -> None:
    with pytest.raises(ValueError, match="strength is"):
        SequenceSpec((1,), 1, strength)


def test_a_step_lets_slots_that_are_alike_look_together(monkeypatch) -> None:
    engine = make_engine("llama")
    rows = [SequenceSpec((2, 7, 11) * length, n % 3) for n, length in enumerate((3, 30, 4, 31, 5))]
    running = [begin(engine, row, Sampling())[0] for row in rows]
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        "models.engine.attention.attention.functional.scaled_dot_product_attention",
        lambda queries, *args, **kwargs: (
            calls.append(len(queries)) or kernel(queries, *args, **kwargs)
        ),
    )
    engine.start_step(running)()
    assert calls == [3, 2] * engine.lm.kv_shape.layers


def test_a_model_answers_through_its_engine_only() -> None:
    lm, ids = make_engine("llama").lm, torch.tensor([PROMPTS[0]])
    with pytest.raises(RuntimeError, match="its attention is not called as"):
        lm.adapters.run(lm.model, [BASE], input_ids=ids)
    with pytest.raises(RuntimeError, match=r"inside ActiveAdapters\.run only"):
        lm.model(input_ids=ids)


def test_a_step_that_fails_for_memory_leaves_all_rows_as_they_were(monkeypatch) -> None:
    engine = make_engine("gemma3")
    whole = texts(engine, ROWS)
    begun = [begin(engine, row, Sampling(NEW)) for row in ROWS]
    sequences = [[first.id] for _, first in begun]
    forward, fails = engine.lm.model.base_model.forward, iter([False, True, False, True])

    def failing(*args, **kwargs):
        out = forward(*args, **kwargs)
        if next(fails, False):
            raise torch.OutOfMemoryError("no memory")
        return out

    monkeypatch.setattr(engine.lm.model.base_model, "forward", failing)
    while len(sequences[0]) < NEW:
        try:
            picked = step(engine, [row for row, _ in begun])
        except torch.OutOfMemoryError:
            continue
        for text, token in zip(sequences, picked, strict=True):
            text.append(token.id)
    assert sequences == whole


def test_two_hundred_cancelled_rows_leave_nothing_behind() -> None:
    engine = make_engine("gemma3", chunk=4)

    def cancel(count: int) -> tuple[int, int, int]:
        for n in range(count):
            running, _ = begin(engine, SequenceSpec((n % 90, *range(30, 50)), n % 3), WARM)
            step(engine, [running])
            engine.remove(running)
        gc.collect()
        tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
        hooks = sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in engine.lm.model.modules()
        )
        return len(tensors), sum(tensor.nbytes for tensor in tensors), hooks

    engine.prefix_cache.max_tokens = 100
    before = cancel(60)  # by then steps of both kinds of rows are replayed
    assert cancel(200) == before
