"""The engine, against transformers' own `generate`, in float32 on tiny random models."""

from __future__ import annotations

import pytest
import tiny
import torch

from models.engine import Engine, Row
from models.sampling import pick
from models.stacked import StackedLora, fold
from models.types import Sampling

PROMPTS = (
    tuple(range(5, 10)),
    tuple(range(20, 29)),
    (2, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51),
)
NEW = 24


@pytest.fixture(params=tiny.FAMILIES)
def family(request) -> str:
    return request.param


def make_engine(family: str) -> Engine:
    model = tiny.make_model(family)
    tiny.add_adapters(model)
    return Engine(model, fold(model, ["first", "second"], torch.float32))


def texts(engine: Engine, rows, sampling=None) -> list[list[int]]:
    sampling = sampling or Sampling(NEW)
    steps = engine.steps(rows, sampling)
    said = [[] for _ in rows]
    for picked, _ in zip(steps, range(sampling.max_new_tokens), strict=False):
        for row, one in picked.items():
            said[row].append(one.id)
    steps.close()
    return said


@torch.inference_mode()
def generated(family: str, adapter: int, ids) -> list[int]:
    """What `generate` says under PEFT's own forward."""
    wrapped = tiny.add_adapters(tiny.make_model(family))
    wrapped.base_model.set_adapter(["first", "second"][adapter - 1] if adapter else "first")
    call = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
        "max_new_tokens": NEW,
        "min_new_tokens": NEW,
        "do_sample": False,
        "eos_token_id": None,
    }
    if adapter:
        out = wrapped.generate(**call)
    else:
        with wrapped.disable_adapter():
            out = wrapped.generate(**call)
    return out[0, len(ids) :].tolist()


def test_each_row_says_what_generate_says_alone(family) -> None:
    rows = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
    expected = [generated(family, adapter, ids) for adapter, ids in enumerate(PROMPTS)]
    assert texts(make_engine(family), rows) == expected
    assert len({tuple(text) for text in expected}) == 3  # or the adapters would prove nothing


def test_a_batch_says_what_its_rows_say_alone(family) -> None:
    engine = make_engine(family)
    rows = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
    assert texts(engine, rows) == [texts(engine, [row])[0] for row in rows]


def test_the_order_of_rows_changes_nothing(family) -> None:
    engine = make_engine(family)
    rows = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
    assert texts(engine, rows[::-1]) == texts(engine, rows)[::-1]


def test_a_seed_draws_the_same_text_in_any_company() -> None:
    engine = make_engine("llama")
    rows = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
    warm = Sampling(NEW, temperature=1.0, top_p=0.9, seed=7)
    assert texts(engine, rows, warm) == [texts(engine, [row], warm)[0] for row in rows]
    assert texts(engine, rows, warm) != texts(engine, rows, Sampling(NEW, 1.0, 0.9, seed=8))


def test_a_row_that_ends_leaves_the_others_text_as_it_was(family) -> None:
    engine = make_engine(family)
    rows = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
    whole = texts(engine, rows)
    steps = engine.steps(rows, Sampling(NEW))
    said = {row: [one.id] for row, one in next(steps).items()}
    for step in range(1, NEW):
        for row, one in steps.send({3: {1}, 9: {0}}.get(step)).items():
            said[row].append(one.id)
    assert said == {0: whole[0][:9], 1: whole[1][:3], 2: whole[2]}


def test_when_all_rows_have_ended_the_generator_ends() -> None:
    steps = make_engine("llama").steps([Row(PROMPTS[0])], Sampling())
    next(steps)
    with pytest.raises(StopIteration):
        steps.send([0])


def test_closing_runs_no_further_step() -> None:
    engine = make_engine("llama")
    calls = []
    engine.model.register_forward_hook(lambda *args: calls.append(1))
    steps = engine.steps([Row(PROMPTS[0])], Sampling())
    next(steps)
    next(steps)
    steps.close()
    assert len(calls) == 2


def test_stacked_layers_compute_what_peft_computes(family) -> None:
    ids = torch.tensor([PROMPTS[1]])
    wrapped = tiny.add_adapters(tiny.make_model(family))
    expected = []
    with torch.no_grad():
        with wrapped.disable_adapter():
            expected.append(wrapped(input_ids=ids).logits)
        for name in ("first", "second"):
            wrapped.set_adapter(name)
            expected.append(wrapped(input_ids=ids).logits)
        model = wrapped.get_base_model()
        layers = fold(model, ["first", "second"], torch.float32)
        assert all(isinstance(layer, StackedLora) for layer in layers)
        assert len(layers) == 2 * len(tiny.LINEAR)
        for layer in layers:
            layer.select(torch.tensor([0, 1, 2]))
        found = model(input_ids=ids.expand(3, -1)).logits
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_the_base_row_is_the_base_to_the_last_bit(family) -> None:
    ids = torch.tensor([PROMPTS[1]])
    plain = tiny.make_model(family)
    model = make_engine(family).model  # rows carry entry 0 until something else is selected
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def draw(probabilities, uniforms, **settings) -> list[int]:
    logits = torch.tensor(probabilities).log().expand(len(uniforms), -1)
    sampling = Sampling(temperature=settings.pop("temperature", 1.0), **settings)
    return pick(logits, torch.tensor(uniforms, dtype=torch.float64), sampling)[0].tolist()


def test_greedy_takes_the_likeliest_and_tells_its_log_probability() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]).log()
    ids, logprobs = pick(logits, torch.zeros(2), Sampling())
    assert ids.tolist() == [1, 0]
    torch.testing.assert_close(logprobs, torch.tensor([0.6, 0.5]).log())


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    assert draw([0.5, 0.3, 0.2], [0.0, 0.49, 0.51, 0.79, 0.81, 0.999]) == [0, 0, 1, 1, 2, 2]


def test_top_k_keeps_the_k_likeliest() -> None:
    assert draw([0.2, 0.3, 0.5], [0.0, 0.6, 0.63, 0.999], top_k=2) == [2, 2, 1, 1]


def test_the_nucleus_holds_the_token_that_crosses_its_border() -> None:
    # 0.5 is not yet 0.6, so the second token belongs; 0.8 is, so the third does not.
    assert draw([0.5, 0.3, 0.2], [0.0, 0.62, 0.63, 0.999], top_p=0.6) == [0, 0, 1, 1]


def test_temperature_sharpens_before_the_nucleus_is_cut() -> None:
    # At 0.5 the masses 0.6, 0.4 become 0.36 : 0.16, that is 0.69 : 0.31.
    assert draw([0.6, 0.4], [0.69, 0.70], temperature=0.5) == [0, 1]


def test_the_log_probability_is_the_models_whatever_the_sampler_does() -> None:
    logits = torch.tensor([[0.6, 0.4]]).log()
    _, logprobs = pick(logits, torch.tensor([0.0]), Sampling(temperature=3.0, top_k=1))
    torch.testing.assert_close(logprobs, torch.tensor([0.6]).log())


def test_a_wide_nucleus_is_not_narrowed() -> None:
    # 10,000 equal tokens: a nucleus of 0.9 holds 9,000 of them, more than are sorted first.
    logits = torch.zeros(1, 10_000)
    ids, _ = pick(logits, torch.tensor([0.9999]), Sampling(temperature=1.0, top_p=0.9))
    order = logits.topk(10_000).indices[0].tolist()
    assert order.index(ids.item()) in range(8_990, 9_001)
