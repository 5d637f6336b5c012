"""Steps of fixed shape are compared with ordinary ones, and what differs is not used."""

from __future__ import annotations

import pytest
import torch
from tiny_engine import NEW, PROMPTS, ROWS, WARM, begin, make_engine, texts

from models.engine.cuda.cuda_graph import StaticStep
from models.engine.cuda.static_kv_cache import StaticAttentionPass
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.model_info import StepCheck, describe_steps
from models.types import Sampling
from playground.ui.answer_view import weights


class WrongLogits(StaticStep):
    """Logits of the last row are off by a hundredth; the token that they say may be the same."""

    def run(self) -> None:
        super().run()
        self.logits[-1] *= 1.01


class WrongToken(StaticStep):
    """Another token is told than the one that was sampled."""

    def run(self) -> None:
        super().run()
        self._out[0] = (self._out[0] + 1) % self.logits.shape[1]


class StuckScales(StaticStep):
    """The adapters are those of the capture: none."""

    def run(self) -> None:
        self._row_scales.zero_()
        super().run()


class NoNumbers(StaticStep):
    def run(self) -> None:
        super().run()
        self.logits[0, 0] = torch.nan


class WrongColumn(StaticAttentionPass):
    """New keys and values are written beside their column."""

    def __init__(self, kv, positions, columns, columns_read) -> None:
        super().__init__(kv, positions, (columns - 1).clamp(min=0), columns_read)


class StuckMask(StaticAttentionPass):
    """A token sees as many columns as that of the capture: one too many here."""

    def __init__(self, kv, positions, columns, columns_read) -> None:
        super().__init__(kv, positions + 1, columns, columns_read)


WRONG = {
    kind.__name__: kind
    for kind in (WrongLogits, WrongToken, StuckScales, NoNumbers, WrongColumn, StuckMask)
}


def break_steps(monkeypatch, name: str) -> None:
    kind = WRONG[name]
    replaced = StaticStep if issubclass(kind, StaticStep) else StaticAttentionPass
    monkeypatch.setattr(f"models.engine.cuda.cuda_graph.{replaced.__name__}", kind)


def test_right_steps_of_every_batch_size_are_used(family) -> None:
    engine = make_engine(family, lanes=True)
    engine.create_static_steps()
    assert [check.rows for check in engine.step_checks] == [1, 2, 3, 4, 5]
    for check in engine.step_checks:
        assert check.fault == ""
        assert check.difference < 1e-5
        assert check.same_tokens == check.tokens == 6 * check.rows
    assert all(engine._static._steps.values())
    assert "rows: on a fixed prompt 90 of 90 tokens" in describe_steps(engine.step_checks)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("sampling", [Sampling(NEW), WARM], ids=["greedy", "sampled"])
def test_a_wrong_step_is_told_and_ordinary_ones_run(name, sampling, monkeypatch, caplog) -> None:
    expected = texts(make_engine("gemma3"), ROWS, sampling)
    break_steps(monkeypatch, name)
    engine = make_engine("gemma3", lanes=True)
    assert texts(engine, ROWS, sampling) == expected
    (check,) = engine.step_checks
    faults = {
        "WrongToken": "its tokens are not those of its logits",
        "NoNumbers": "its logits are not all finite numbers",
    }
    assert check.fault == faults.get(
        name, f"its logits are off by {check.difference:.1%} of the largest"
    )
    assert f"Steps of 3 rows and 80 cached tokens run without CUDA graph: {check.fault}." in (
        caplog.text
    )
    assert describe_steps([check]) == (
        f"ordinary steps for 3 rows of up to 80 tokens, as that step of fixed shape was wrong: "
        f"{check.fault}"
    )


@pytest.mark.parametrize("name", ["WrongToken", "StuckScales", "WrongColumn", "StuckMask"])
def test_without_the_check_such_a_step_says_other_texts(name, monkeypatch) -> None:
    expected = texts(make_engine("gemma3"), ROWS)
    break_steps(monkeypatch, name)
    passed = StepCheck(3, 80, False, 0.0, 1.0, 0, 0)
    monkeypatch.setattr("models.engine.cuda.cuda_graph.check_step", lambda *_: passed)
    assert texts(make_engine("gemma3", lanes=True), ROWS) != expected


def test_only_the_batch_size_that_is_wrong_falls_back(monkeypatch) -> None:
    class WrongOfTwo(StaticStep):
        def run(self) -> None:
            super().run()
            if self.count == 2:
                self.logits *= 2

    expected = [texts(make_engine("llama"), ROWS[:count]) for count in (1, 2, 3)]
    monkeypatch.setattr("models.engine.cuda.cuda_graph.StaticStep", WrongOfTwo)
    engine = make_engine("llama", lanes=True)
    engine.prefix_cache.max_tokens = 0  # every text begins in the first slots
    assert [texts(engine, ROWS[:count]) for count in (1, 2, 3)] == expected
    assert [(check.rows, bool(check.fault)) for check in engine.step_checks] == [
        (1, False),
        (2, True),
        (3, False),
    ]
    assert "ordinary steps for 2 rows" in describe_steps(engine.step_checks)
    assert "steps of fixed shape of 1, 3 rows" in describe_steps(engine.step_checks)


def test_a_check_leaves_keys_and_values_of_running_sequences_as_they_were(family) -> None:
    engine, plain = make_engine(family, lanes=True), make_engine(family)
    running, expected = begin(engine, ROWS[1], Sampling(NEW)), begin(plain, ROWS[1], Sampling(NEW))
    before = engine._static.cache.kv.clone()
    engine.create_static_steps()
    assert len(engine.step_checks) == 5
    assert torch.equal(engine._static.cache.kv, before)
    for _ in range(NEW):
        (tokens,), (others,) = (
            side.start_step([row])() for side, (row, _) in ((engine, running), (plain, expected))
        )
        assert [token.id for token in tokens] == [token.id for token in others]


def test_a_longer_step_is_checked_when_a_text_grows_into_it() -> None:
    engine, plain = make_engine("gemma3"), make_engine("gemma3")
    engine.use_static_cache(2, 300, PROMPTS[0])
    rows = [SequenceSpec(tuple(5 + n % 80 for n in range(245)), 1), ROWS[2]]
    assert texts(engine, rows) == texts(plain, rows)
    assert [(check.rows, check.columns) for check in engine.step_checks] == [(2, 256), (2, 300)]
    assert not any(check.fault for check in engine.step_checks)


def test_a_check_that_fails_for_want_of_memory_leaves_everything_as_it_was(monkeypatch) -> None:
    engine = make_engine("llama", lanes=True)
    running, _ = begin(engine, ROWS[1], Sampling(NEW))
    before = engine._static.cache.kv.clone()

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("models.engine.cuda.step_check.sample_tokens", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            engine.start_step([running])
        engine.create_static_steps()  # as far as memory allows: not at all
    assert engine.step_checks == ()
    assert torch.equal(engine._static.cache.kv, before)
    engine.start_step([running])()
    assert [check.rows for check in engine.step_checks] == [1]


def test_the_page_shows_how_steps_compare(tiny_backend) -> None:
    (group,) = tiny_backend.groups
    engine: Engine = group.engine
    assert not any("decode steps" in row["name"] for row in weights(_info(tiny_backend)))
    engine.use_static_cache(3, 64, PROMPTS[0])
    try:
        engine.create_static_steps()
        rows = {row["name"]: row["text"] for row in weights(_info(tiny_backend))}
        assert rows["decode steps"].startswith("steps of fixed shape of 1, 2, 3 rows: on a fixed")
    finally:
        engine._static = None


def _info(backend):
    return backend.model_info()["task"]
