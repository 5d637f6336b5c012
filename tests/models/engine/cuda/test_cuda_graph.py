"""Steps of one shape: what a CUDA graph holds, and what it says."""

from __future__ import annotations

import pytest
import torch
from tiny_engine import NEW, PROMPTS, ROWS, WARM, begin, make_engine, make_model, texts

from models.engine.cuda.cuda_graph import StaticStep
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.types import Sampling


def test_a_static_step_holds_what_changes_between_steps() -> None:
    engine, plain = make_engine("gemma3", lanes=True), make_engine("gemma3")
    rows = [
        SequenceSpec(PROMPTS[0], 1, 0.5),
        SequenceSpec(PROMPTS[1], 2, 1.5),
        SequenceSpec(PROMPTS[2], 1),
    ]
    assert texts(engine, rows) == texts(plain, rows)
    assert texts(engine, rows[::-1]) == texts(plain, rows[::-1])  # other adapters in the same lanes
    assert len(engine._static._steps) == 1  # one graph would have served both


def test_lanes_that_are_all_taken_are_no_memory() -> None:
    engine = make_engine("llama", lanes=True)
    for _ in range(5):
        begin(engine, ROWS[0], Sampling())
    with pytest.raises(MemoryError, match="every slot is taken"):
        engine.add(ROWS[1], Sampling())


def test_a_draw_beyond_what_a_static_step_sorts_is_made_among_all(monkeypatch) -> None:
    flat = Sampling(NEW, temperature=10.0, top_p=0.95, seed=5)
    expected = texts(make_engine("llama"), ROWS, flat)
    monkeypatch.setattr("models.engine.sampling.inverse_cdf.sample_truncated.__defaults__", (8,))
    assert texts(make_engine("llama", lanes=True), ROWS, flat) == expected
    assert texts(make_engine("llama"), ROWS, flat) == expected


@torch.inference_mode()
def test_the_runs_that_precede_a_capture_disturb_no_running_sequence(family) -> None:
    engine = make_engine(family, lanes=True)
    for row in ROWS:
        begin(engine, row, Sampling(NEW))
    cache = engine._static.cache
    before = cache.kv.clone()
    new = StaticStep(engine.lm, cache, 5, 80)
    for _ in range(2):  # as `capture` does, before the step has any input
        new.run()
    assert torch.equal(cache.kv[..., : cache.length, :], before[..., : cache.length, :])
    assert new.logits.isfinite().all()
    tokens = new._out[0]
    assert ((tokens >= 0) & (tokens < new.logits.shape[1])).all()
    assert new._out.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_says_what_an_eager_one_says(family) -> None:
    expected = texts(make_engine(family), ROWS, WARM)
    model, carried = make_model(family)
    model = model.to("cuda")
    carried.like = carried.like.to("cuda")
    engine = Engine(model, carried)
    engine.use_static_cache(5, 80, PROMPTS[0])
    assert texts(engine, ROWS, WARM) == expected
    assert engine._static.captures
    engine.create_static_steps()
    assert {check.rows for check in engine.step_checks} == {1, 2, 3, 4, 5}
    assert all(check.captured and not check.fault for check in engine.step_checks)
