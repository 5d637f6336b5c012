"""Replayed passes: equal to ordinary ones to the bit, or not used."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import tiny
import torch
from tiny_engine import NEW, ROWS, WARM, begin, make_engine, step
from torch import nn

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.dequantized import to_float32
from models.engine.layers.multi_lora import RowScales, stack_adapters
from models.engine.layers.nf4 import Nf4Linear, direct_call, has_nf4_matmul
from models.engine.replay import program, recording
from models.engine.replay.program import Program
from models.engine.replay.recording import NotReplayable
from models.engine.replay.recording import recording as begin_recording
from models.engine.replay.replays import MAX_ROWS, RECORDED_AT, Replays
from models.types import Sampling


class Attention:
    """Adds a pass's own number to what it is shown."""

    def __init__(self, number: float) -> None:
        self.number = number

    def attend(self, states):
        return states + self.number


def record(function, *inputs) -> Program:
    with torch.inference_mode(), begin_recording() as recorder:
        output = function(*inputs)
    return Program(recorder.calls, inputs, output)


def run(replays, forward, number: int, rows: int = 2, length: int = 1):
    """Compute a pass whose ids, positions and attention depend on a number."""
    ids = torch.arange(rows * length).view(rows, length) + number
    with torch.inference_mode():
        scales = RowScales(torch.ones(rows, 1, 2), 1)
        return replays(forward, ids, ids + 3, scales, Attention(number))


@pytest.mark.parametrize("sampling", [Sampling(NEW), WARM])
def test_a_replay_is_the_ordinary_pass_to_the_bit(family, sampling) -> None:
    engine, plain = make_engine(family), make_engine(family)
    plain.lm.replays.stopped = True
    started, expected = ([begin(e, row, sampling)[0] for row in ROWS] for e in (engine, plain))
    for _ in range(NEW - 1):
        assert step(engine, started) == step(plain, expected)  # log-probabilities as well
    for row, other in zip(started, expected, strict=True):
        kept, ordinary = (torch.stack(r.cache.slices(0, len(r.cache.ids))) for r in (row, other))
        assert torch.equal(kept, ordinary)
    assert (engine.lm.replays.count, plain.lm.replays.count) == (1, 0)


def test_rows_of_the_base_are_another_shape() -> None:
    engine = make_engine("llama")
    for adapter in (0, 1):
        sequence = begin(engine, SequenceSpec((5, 6, 7), adapter), Sampling(NEW))[0]
        for _ in range(RECORDED_AT + 2):
            step(engine, [sequence])
    assert engine.lm.replays.count == 2


def test_a_pass_is_replayed_once_it_is_proven() -> None:
    calls = []

    def forward(ids, positions, rows, attention):
        calls.append(len(calls))
        return attention.attend(ids.float() * 2) + positions

    replays = Replays()
    for number in range(RECORDED_AT + 5):
        states = run(replays, forward, number)
        ids = torch.tensor([[0], [1]]) + number
        assert torch.equal(states, 2 * ids + number + ids + 3)
    assert len(calls) == RECORDED_AT + 1
    assert replays.count == 1


def test_what_is_long_or_wide_is_not_replayed() -> None:
    calls = []
    replays = Replays()

    def forward(ids, *others):
        calls.append(len(ids))
        return ids.float()

    for number in range(RECORDED_AT + 3):
        run(replays, forward, number, length=2)
        run(replays, forward, number, rows=MAX_ROWS + 1)
    assert len(calls) == 2 * (RECORDED_AT + 3)


def test_a_replay_that_differs_is_not_used(caplog) -> None:
    """Torch does not see what Python counts."""
    passes = []

    def forward(ids, positions, rows, attention):
        passes.append(None)
        return ids.float() * len(passes)

    replays = Replays()
    with caplog.at_level(logging.WARNING):
        for number in range(RECORDED_AT + 3):
            assert torch.equal(
                run(replays, forward, number), (torch.tensor([[0.0], [1]]) + number) * (number + 1)
            )
    assert "differed" in replays.reason
    assert "differed" in caplog.text


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        (lambda x: x * (2 if x.sum() > 3 else 3), "Python code reads"),
        (lambda x: x * x.max().item(), "Python code reads"),
        (lambda x: x * (2 if x.tolist()[0][0] < 9 else 3), "Python code reads"),
        (lambda x: x * (2 if x.numpy()[0, 0] < 9 else 3), "Python code reads"),
        (lambda x: x[x > 0].sum() * x, "the size of what aten.index"),
        (lambda x: x.nonzero().sum() * x, "the size of what aten.nonzero"),
        (lambda x: nn.functional.dropout(x), "depends on chance"),
        (lambda x: torch.rand_like(x) * x, "depends on chance"),
        (lambda x: torch.rand(2, 1) * x, "depends on chance"),
        (lambda x: LASTING.add_(x), "outlasts"),
    ],
)
def test_what_a_replay_would_not_repeat_is_refused(effect, reason) -> None:
    replays = Replays()

    def forward(ids, *others):
        return effect(ids.float())

    for number in range(RECORDED_AT + 2):
        LASTING.zero_()
        torch.manual_seed(number)
        states = run(replays, forward, number).clone()
        LASTING.zero_()
        torch.manual_seed(number)
        assert torch.equal(states, effect(torch.tensor([[0.0], [1]]) + number))
    assert reason in replays.reason
    assert replays.count == 0


LASTING = torch.zeros(2, 1)


def test_what_takes_much_memory_is_not_recorded(monkeypatch) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 1000)
    replays = Replays()

    def forward(ids, *others):
        return ids.float().expand(2, 400).clone().sum(1)

    for number in range(RECORDED_AT + 2):
        assert torch.equal(run(replays, forward, number), 400 * (torch.tensor([0.0, 1]) + number))
    assert "more than" in replays.reason
    for number in range(RECORDED_AT + 2):  # another shape is smaller
        states = run(replays, lambda ids, *others: ids.float() * 2, number, rows=1)
        assert states.item() == 2 * number
    assert replays.count == 1


def test_a_large_constant_is_computed_again_and_a_small_one_kept(monkeypatch) -> None:
    weight = torch.randn(4, 300)
    states = torch.randn(2, 4)

    def forward(x):
        return x @ (weight * 2) + (weight[0] * 3)

    sizes = []
    for limit in (64, 1 << 20):
        monkeypatch.setattr(program, "_MAX_CONSTANT_BYTES", limit)
        replay = record(forward, states)
        sizes.append(len(replay))
        for _ in range(2):
            states = torch.randn(2, 4)
            assert torch.equal(replay(states), forward(states))
    assert sizes[0] == sizes[1] + 2


def test_results_that_share_memory_are_not_mixed_up() -> None:
    """Views, results in place, parts that are put together, and results that live long."""

    def forward(x, y):
        first, second = (x + y).split(2, -1)
        whole = torch.cat([second.mul_(2), first, y[:, :1]], -1)
        late = whole.transpose(0, 1).contiguous()
        normed = torch.layer_norm(late, late.shape[1:])
        largest, places = late.topk(2, 0)
        return (normed + first.sum()) @ second.float() + largest.sum() + places.max()

    replay = record(forward, torch.randn(3, 4), torch.randn(3, 4))
    kept = []
    for _ in range(3):
        inputs = torch.randn(3, 4), torch.randn(3, 4)
        kept.append((replay(*inputs), forward(*(tensor.clone() for tensor in inputs))))
    assert all(torch.equal(*pair) for pair in kept)  # no replay changed what an earlier returned


def test_an_input_is_left_as_it_is() -> None:
    replay = record(lambda x: x.clone().mul_(2), torch.ones(2))
    x = torch.full((2,), 3.0)
    assert replay(x).tolist() == [6, 6]
    assert x.tolist() == [3, 3]


def test_a_pass_that_changes_its_input_is_refused() -> None:
    with pytest.raises(NotReplayable, match="outlasts"):
        record(lambda x: x.mul_(2), torch.ones(2))


def test_a_pass_that_cannot_be_laid_out_or_replayed_is_computed_as_always(monkeypatch) -> None:
    def fails(*args, **kwargs):
        raise RuntimeError("no memory")

    def forward(ids, *others):
        return ids.float() * 2

    places = (Program, "__init__"), (Program, "__call__"), (recording.Recorder, "_append")
    for place in places:
        replays = Replays()
        with monkeypatch.context() as patch:
            patch.setattr(*place, fails)
            for number in range(RECORDED_AT + 2):
                states = run(replays, forward, number)
                assert torch.equal(states, 2 * (torch.tensor([[0.0], [1]]) + number))
        assert replays.reason == "RuntimeError: no memory"


def test_a_replay_that_differs_leaves_the_right_keys_and_values(monkeypatch, caplog) -> None:
    engine, plain = make_engine("llama"), make_engine("llama")
    plain.lm.replays.stopped = True
    replay = Program.__call__

    def wrong(self, ids, *others, **kwargs):
        return replay(self, ids + 1, *others, **kwargs)

    monkeypatch.setattr(Program, "__call__", wrong)
    started, expected = ([begin(e, row, Sampling(NEW))[0] for row in ROWS] for e in (engine, plain))
    for _ in range(RECORDED_AT + 4):
        assert step(engine, started) == step(plain, expected)
    assert "differed" in engine.lm.replays.reason


def test_a_base_without_adapters_in_packed_layers_is_replayed() -> None:
    model = tiny.make_model("llama")
    to_float32(model)
    engine = Engine(model, stack_adapters(model, [], torch.float32))
    plain = Engine(model, engine.lm.adapters)
    engine.max_guesses = plain.max_guesses = 0
    plain.lm.replays.stopped = True
    row = SequenceSpec((5, 6, 7))
    started, expected = (begin(e, row, Sampling(NEW))[0] for e in (engine, plain))
    for _ in range(RECORDED_AT + 4):
        assert step(engine, [started]) == step(plain, [expected])
    assert engine.lm.replays.count == 1


def test_an_engine_that_is_dropped_is_freed_at_once() -> None:
    engine = make_engine("llama")
    sequence = begin(engine, ROWS[1], Sampling(NEW))[0]
    for _ in range(RECORDED_AT + 2):
        step(engine, [sequence])
    references = [weakref.ref(part) for part in (engine.lm, engine.lm.model, sequence.cache)]
    assert engine.lm.replays.count == 1
    del sequence
    gc.collect()
    gc.disable()
    try:
        del engine
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.skipif(not has_nf4_matmul(), reason="no 4-bit product on this processor")
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_the_kernel_alone_computes_what_the_operation_does(rows) -> None:
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(rows)
    layer = Linear4bit(128, 96, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    layer = layer.to("cpu").eval()
    layer.weight.quant_state  # noqa: B018
    layer(torch.zeros(1, 128, dtype=torch.bfloat16))
    product = Nf4Linear(layer)
    wide = torch.randn(rows, 1, 256).bfloat16()
    x, y = wide[..., :128], torch.empty(rows, 1, 96, dtype=torch.bfloat16)
    args = (x, product.weight, product.shape, product.absmax, product.code, product.blocksize)
    function = torch.ops.bitsandbytes.gemv_4bit.default
    direct = direct_call(function, args, [y])
    assert direct is not None
    direct()
    assert torch.equal(y, product(x))
    assert direct_call(function, (x.float(), *args[1:]), [y]) is None
    assert direct_call(torch.ops.aten.add.Tensor, (x, x), [y]) is None
