"""The engine, against transformers' own `generate` under PEFT, in float32 on tiny random models."""

from __future__ import annotations

import gc
import math

import pytest
import tiny
import torch
from peft.tuners.lora import LoraLayer

from models.engine import reference
from models.engine.dense import Dense
from models.engine.direct import settle
from models.engine.draws import FEW, REFUSALS, draw_below
from models.engine.engine import Engine
from models.engine.guesses import Guesses
from models.engine.head import CANDIDATES, CANDIDATES_OF_DRAWS, ExactHead, ScreenedHead
from models.engine.joined import Part, join
from models.engine.logits import top_ids
from models.engine.norms import RmsNorm, replace_norms
from models.engine.products import has_fbgemm
from models.engine.rows import Row
from models.engine.sampling import after_sampler, pick
from models.engine.scoring import expected
from models.engine.slots import BLOCK
from models.engine.stacked import Carried, StackedLora, fold
from models.types import Sampling

PROMPTS = (
    tuple(range(5, 10)),
    tuple(range(20, 29)),
    (2, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51),
)
ROWS = [Row(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
NEW = 24
WARM = Sampling(NEW, temperature=1.0, top_p=0.9, seed=7)


@pytest.fixture(params=tiny.FAMILIES)
def family(request) -> str:
    return request.param


def make_model(family: str) -> tuple[torch.nn.Module, Carried]:
    model = tiny.make_model(family)
    tiny.add_adapters(model)
    return model, fold(model, ["first", "second"], torch.float32)


def make_engine(
    family: str,
    chunk: int = 64,
    own_norms: bool = False,
    lanes: bool = False,
    step_rows: int = 0,
) -> Engine:
    model, carried = make_model(family)
    join(model)
    if not own_norms:
        replace_norms(model)
    settle(model)
    engine = Engine(model, carried)
    engine.chunk = chunk
    engine.step_rows = step_rows
    if lanes:
        engine.use_lanes(5, 80)
    return engine


@pytest.fixture(params=[False, True], ids=["slots", "lanes"])
def lanes(request) -> bool:
    return request.param


def begin(engine: Engine, row: Row, sampling: Sampling):
    """Begin a row and feed its prompt; return it and its first token."""
    running = engine.begin(row, sampling)
    while (picked := engine.prefill(running)) is None:
        pass
    return running, picked


def step(engine: Engine, rows):
    """The next token of each row, where nothing is guessed."""
    return [one for (one,) in engine.launch(rows)()]


def texts(engine: Engine, rows, sampling=None) -> list[list[int]]:
    """What the rows say together."""
    sampling = sampling or Sampling(NEW)
    begun = [begin(engine, row, sampling) for row in rows]
    said = [[first.id] for _, first in begun]
    while min(map(len, said)) < sampling.max_new_tokens:
        for text, picked in zip(said, engine.launch([row for row, _ in begun])(), strict=True):
            text += [one.id for one in picked]
    for row, _ in begun:
        engine.end(row)
    return [text[: sampling.max_new_tokens] for text in said]


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


def test_each_row_says_what_generate_says_alone(family, lanes) -> None:
    expected = [generated(family, row.adapter, row.ids) for row in ROWS]
    assert texts(make_engine(family, lanes=lanes), ROWS) == expected
    assert len({tuple(text) for text in expected}) == 3  # or the adapters would prove nothing


def test_the_reference_says_what_generate_says(family) -> None:
    model, carried = make_model(family)
    said = reference.generate(model, carried, ROWS, Sampling(NEW))
    expected = [generated(family, row.adapter, row.ids) for row in ROWS]
    assert [[one.id for one in text] for text in said] == expected


def test_a_seed_draws_what_the_reference_draws(family, lanes) -> None:
    said = reference.generate(*make_model(family), ROWS, WARM)
    assert texts(make_engine(family, lanes=lanes), ROWS, WARM) == [
        [one.id for one in text] for text in said
    ]


def test_a_batch_says_what_its_rows_say_alone(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    assert texts(engine, ROWS) == [texts(engine, [row])[0] for row in ROWS]


def alone(engine: Engine, prompt, continuation) -> float:
    """Score a continuation as one text of its own."""
    ids = (*prompt.ids, *continuation)
    states = engine.hidden(Row(ids[:-1], prompt.adapter))[len(prompt.ids) - 1 :]
    logprobs = engine.exact_head(states).float().log_softmax(-1)
    return float(logprobs[range(len(continuation)), list(continuation)].sum())


CONTINUATIONS = [(5,), (5, 6), (5, 6, 9, 11), (8,), (8, 3, 4), (7, 7, 7)]


@pytest.mark.parametrize("length", [3, 30, 61])
def test_continuations_that_share_a_prompt_score_what_each_scores_alone(
    family, lanes, length
) -> None:
    engine = make_engine(family, lanes=lanes)
    for adapter in (0, 2):
        prompt = Row(tuple(4 + n * n % 60 for n in range(length)), adapter)
        running, _ = begin(engine, prompt, Sampling())
        found = engine.rank(running, CONTINUATIONS)
        assert found == pytest.approx(
            [alone(engine, prompt, one) for one in CONTINUATIONS], abs=2e-4
        )
        few = make_engine(family, chunk=2, lanes=lanes)  # branches in several passes
        again, _ = begin(few, prompt, Sampling())
        assert few.rank(again, CONTINUATIONS) == pytest.approx(found, abs=2e-4)


def test_a_text_in_chunks_scores_what_it_scores_whole(family) -> None:
    row = Row(tuple(4 + n * n % 60 for n in range(23)), 1)
    engine, found = make_engine(family), []
    slot = engine.new_slot(row)
    for at in range(0, 23, 5):
        ids, then = row.ids[at : at + 5], row.ids[at + 1 : at + 6]
        found += engine.read([slot], [ids], [then], 0, Sampling())[0]
    first = Row(row.ids[:1], row.adapter)
    nats = [one.nats for one in found if one.nats is not None]
    assert sum(nats) == pytest.approx(-alone(engine, first, row.ids[1:]), abs=1e-3)
    assert len(nats) == 22


def test_texts_that_are_read_together_are_read_as_alone(family) -> None:
    engine, rows = make_engine(family), [Row(tuple(range(4, 24)), n) for n in (0, 1, 2)]

    def read(some: list[Row]) -> list:
        slots, found = [engine.new_slot(row) for row in some], [[] for _ in some]
        for at in range(0, 20, 7):
            ids = [row.ids[at : at + 7] for row in some]
            then = [row.ids[at + 1 : at + 8] for row in some]
            read = engine.read(slots, ids, then, 5, Sampling())
            found = [one + more for one, more in zip(found, read, strict=True)]
        return found

    for one, row in zip(read(rows), rows, strict=True):
        (own,) = read([row])
        assert [e.ids for e in one] == [e.ids for e in own]
        for ours, theirs in zip(one, own, strict=True):
            assert ours.p == pytest.approx(theirs.p, abs=1e-4)
            assert (ours.nats, ours.rank) == (pytest.approx(theirs.nats, abs=1e-4), theirs.rank)


def test_ranking_changes_no_token_that_is_said_later(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    running, picked = begin(engine, ROWS[1], Sampling(12))
    engine.rank(running, CONTINUATIONS)
    said = [picked.id, *(step(engine, [running])[0].id for _ in range(11))]
    assert said == texts(make_engine(family, lanes=lanes), [ROWS[1]], Sampling(12))[0]


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
    alone = [texts(engine, [row], one)[0] for row, one in zip(ROWS, settings, strict=True)]
    begun = [begin(engine, row, one) for row, one in zip(ROWS, settings, strict=True)]
    said = [[first.id] for _, first in begun]
    for _ in range(NEW - 1):
        for text, picked in zip(said, step(engine, [row for row, _ in begun]), strict=True):
            text.append(picked.id)
    assert said == alone


def test_a_prompt_in_chunks_says_the_same(family) -> None:
    assert texts(make_engine(family, chunk=4), ROWS) == texts(make_engine(family), ROWS)


def test_a_kept_prefix_changes_nothing_and_is_not_fed_again(family, lanes) -> None:
    engine = make_engine(family, chunk=4, lanes=lanes)
    first, second = Row(tuple(range(30, 50)), 1), Row((*range(30, 45), 7, 8), 1)
    texts(engine, [first])
    fed = []
    hook = engine.model.get_input_embeddings().register_forward_hook(
        lambda module, args, out: fed.append(out.shape[1])
    )
    again, alike = texts(engine, [first]), texts(engine, [second])
    hook.remove()
    assert fed[:1] + fed[NEW : NEW + 2] == [4, 4, 1]  # the last chunk of 20, and 5 of 17 tokens
    fresh = make_engine(family, chunk=4)
    assert again == texts(fresh, [first])
    assert alike == texts(make_engine(family, chunk=4), [second])


def test_a_running_row_lends_its_prefix(family, lanes) -> None:
    engine = make_engine(family, chunk=4, lanes=lanes)
    row = Row(tuple(range(30, 50)), 2)
    lender, first = begin(engine, row, Sampling(NEW))
    for _ in range(3):
        step(engine, [lender])
    held = len(lender.slot.fed)
    borrower = engine.begin(row, Sampling(NEW))
    assert (len(borrower.slot.fed), len(lender.slot.fed)) == (16, held)
    assert engine.prefill(borrower) == first


def test_another_adapter_or_strength_shares_no_prefix() -> None:
    engine = make_engine("llama", chunk=4)
    texts(engine, [Row(tuple(range(30, 50)), 1)])
    for row in (Row(tuple(range(30, 50)), 2), Row(tuple(range(30, 50)), 1, 0.5)):
        assert engine.begin(row, Sampling()).slot.fed == []


def test_what_is_kept_is_kept_once() -> None:
    engine = make_engine("llama", chunk=4)
    long, short = tuple(range(30, 50)), tuple(range(30, 40))
    for ids in (short, long, long, short):
        texts(engine, [Row(ids, 1), Row(ids, 1)])
    assert [slot.fed for slot in engine.prefixes.slots] == [list(long)]
    texts(engine, [Row(long, 2), Row(tuple(range(31, 40)), 1), Row((9, 9), 1)])
    kept = [(slot.carries[0], len(slot.fed)) for slot in engine.prefixes.slots]
    assert kept == [(1, 20), (2, 20), (1, 8)]


def test_of_what_is_kept_the_slot_that_shares_most_is_taken() -> None:
    engine = make_engine("llama", chunk=4)
    for shared in (8, 12, 4):
        texts(engine, [Row((*range(30, 30 + shared), *range(5, 25 - shared)), 1)])
    assert len(engine.prefixes.slots) == 3
    running = engine.begin(Row(tuple(range(30, 50)), 1), Sampling())
    assert running.slot.fed == list(range(30, 42))


def test_where_lanes_are_few_what_was_kept_first_makes_room() -> None:
    engine = make_engine("llama", chunk=4, lanes=True)
    for first in range(5):
        texts(engine, [Row((first, *range(30, 48)), 1)], Sampling(2))
    assert [slot.fed[0] for slot in engine.prefixes.slots] == [0, 1, 2, 3, 4]
    begin(engine, Row(PROMPTS[2], 2), Sampling())
    assert [slot.fed[0] for slot in engine.prefixes.slots] == [1, 2, 3, 4]


def test_what_is_kept_holds_no_more_memory_than_it_needs() -> None:
    engine = make_engine("llama", chunk=16)
    texts(engine, [Row(tuple(range(5, 37)), 1)], Sampling(90))
    (slot,) = engine.prefixes.slots
    assert len(slot.fed) == 32
    assert slot._kv.shape[-2] == -(-32 // BLOCK) * BLOCK


def test_what_is_kept_has_a_limit() -> None:
    engine = make_engine("llama", chunk=4)
    engine.prefixes.tokens = 40
    for first in range(10):
        texts(engine, [Row((first, *range(30, 48)), 1)], Sampling(2))
    assert sum(len(slot.fed) for slot in engine.prefixes.slots) == 32


def test_a_row_that_ends_leaves_the_others_text_as_it_was(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    whole = texts(engine, ROWS)
    begun = [begin(engine, row, Sampling(NEW)) for row in ROWS]
    said = {n: [first.id] for n, (_, first) in enumerate(begun)}
    running = dict(enumerate(row for row, _ in begun))
    for number in range(1, NEW):
        for gone in {3: [1], 9: [0]}.get(number, []):
            engine.end(running.pop(gone))
        for n, one in zip(running, step(engine, list(running.values())), strict=True):
            said[n].append(one.id)
    assert said == {0: whole[0][:9], 1: whole[1][:3], 2: whole[2]}


def test_a_row_that_joins_changes_nothing_for_the_others(lanes) -> None:
    engine = make_engine("gemma3", lanes=lanes)
    whole = texts(engine, ROWS)
    first, one = begin(engine, ROWS[0], Sampling(NEW))
    said = [[one.id], []]
    for _ in range(5):
        said[0].append(step(engine, [first])[0].id)
    second, one = begin(engine, ROWS[1], Sampling(NEW))
    said[1].append(one.id)
    for _ in range(8):
        for text, one in zip(said, step(engine, [first, second]), strict=True):
            text.append(one.id)
    assert said == [whole[0][:14], whole[1][:9]]


def test_no_strength_is_the_base_to_the_last_bit(family) -> None:
    engine = make_engine(family)
    base, none = (engine.hidden(Row(PROMPTS[1], *carries)) for carries in ((0,), (1, 0.0)))
    assert torch.equal(base, none)
    plain = tiny.make_model(family)
    with torch.no_grad():
        expected = plain.base_model(input_ids=torch.tensor([PROMPTS[1]])).last_hidden_state[0]
    torch.testing.assert_close(base, expected, rtol=1e-5, atol=1e-5)


def test_beside_tuned_rows_the_base_row_stays_the_base(family) -> None:
    engine = make_engine(family)
    alone, _ = begin(engine, ROWS[0], Sampling(NEW))
    beside = [begin(engine, row, Sampling(NEW))[0] for row in ROWS]
    for _ in range(NEW):
        (one,), (other, *_) = step(engine, [alone]), step(engine, beside)
        assert one.id == other.id
        assert one.logprob == pytest.approx(other.logprob, abs=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_strength_scales_the_adapter_as_peft_would(family, strength) -> None:
    wrapped = tiny.add_adapters(tiny.make_model(family))
    wrapped.set_adapter("second")
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling["second"] *= strength
    with torch.no_grad():
        out = wrapped.get_base_model().base_model(input_ids=torch.tensor([PROMPTS[1]]))
    found = make_engine(family, own_norms=True).hidden(Row(PROMPTS[1], 2, strength))
    torch.testing.assert_close(found, out.last_hidden_state[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan")])
def test_a_strength_out_of_range_is_refused(strength) -> None:
    with pytest.raises(ValueError, match="strength is"):
        Row((1,), 1, strength)


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
        carried = fold(model, ["first", "second"], torch.float32)
        layers = [layer for layer in model.modules() if isinstance(layer, StackedLora)]
        assert len(layers) == 2 * len(tiny.LINEAR)
        carried.select([(0, 1.0), (1, 1.0), (2, 1.0)])
        apart = model(input_ids=ids.expand(3, -1)).logits
        torch.testing.assert_close(apart, torch.cat(expected), rtol=1e-4, atol=1e-4)
        join(model)
        assert sum(isinstance(layer, Part) for layer in model.modules()) == 2 * 5
        joined = model(input_ids=ids.expand(3, -1)).logits
    torch.testing.assert_close(joined, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_in_a_few_operations_compute_the_same(family, dtype) -> None:
    model = tiny.make_model(family)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_()
        norms = {n: one for n, one in model.named_modules() if "RMSNorm" in type(one).__name__}
        replace_norms(model)
        for name, norm in norms.items():
            found = model.get_submodule(name)
            assert type(found) is RmsNorm
            for size in (0.0, 1e-4, 1.0, 1e3):  # what is added to the mean square counts, too
                x = size * torch.randn(9, 2, 1, len(norm.weight))
                narrow = 0.01 if dtype == torch.bfloat16 else 1e-5
                whole = found(x.to(dtype))
                torch.testing.assert_close(
                    whole.float(), norm(x.to(dtype).float()), rtol=narrow, atol=narrow
                )
                assert whole.dtype == dtype
                assert all(torch.equal(found(x[n, None].to(dtype))[0], whole[n]) for n in range(9))


def test_a_norm_that_computes_something_else_stays() -> None:
    class OtherRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            return 2 * x

    holder = torch.nn.Sequential(OtherRMSNorm())
    replace_norms(holder)
    assert isinstance(holder[0], OtherRMSNorm)


def test_joined_4_bit_layers_are_the_same_to_the_last_bit() -> None:
    from models.engine.four_bit import beside

    torch.manual_seed(0)
    weights = [torch.randn(32 * n, 128).bfloat16() for n in (4, 1, 2)]
    x = torch.randn(3, 1, 128).bfloat16()
    with torch.inference_mode():
        apart = torch.cat([tiny.four_bit(weight)(x) for weight in weights], -1)
        assert torch.equal(beside([tiny.four_bit(weight) for weight in weights])(x), apart)


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_screened_head_is_exact_for_what_is_likely_and_the_same_in_any_company(dtype) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(40_000, 64).bfloat16(), torch.randn(9, 64).to(dtype)
    screened = ScreenedHead(weight)
    with torch.inference_mode():
        exact, found = (hidden @ weight.to(dtype).T).float(), screened(hidden).clone()
        alone = [screened(hidden[n : n + 1])[0].clone() for n in range(9)]
        drawn = screened(hidden, [1, 4]).clone()
        alone_drawn = screened(hidden[4:5], [0])[0].clone()
    for some, count in ((found, CANDIDATES), (drawn[[1, 4]], CANDIDATES_OF_DRAWS)):
        true = exact if some is found else exact[[1, 4]]
        likely = true.topk(count // 4)
        torch.testing.assert_close(some.gather(1, likely.indices), likely.values)
        torch.testing.assert_close(some.topk(count // 4).values, likely.values)
    assert torch.equal(found.argmax(-1), exact.argmax(-1))
    assert torch.equal(torch.stack(alone), found)
    assert torch.equal(alone_drawn, drawn[4])
    assert torch.equal(found[[0, 2, 3]], drawn[[0, 2, 3]])
    assert not torch.equal(found[1], drawn[1])
    assert not torch.equal(exact, found)  # or the copy would be no copy


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.inference_mode()
def test_a_screened_head_draws_from_all_as_the_exact_one_would(dtype) -> None:
    torch.manual_seed(1)
    weight, hidden = (0.3 * torch.randn(5_000, 64)).bfloat16(), torch.randn(1, 64).to(dtype)
    screened, count = ScreenedHead(weight), 4_000
    exact = (hidden.float() @ weight.float().T).to(dtype).float()
    logits = screened(hidden).clone()
    drawn = torch.tensor(
        [screened.draw(logits.clone(), hidden, (n + 0.5) / count, 1.0) for n in range(count)]
    )
    # The 256 likeliest, that are known, and all others by the thousands of their ids.
    groups = torch.arange(5_000) // 1_000
    groups[exact[0].topk(CANDIDATES_OF_DRAWS).indices] = 5
    true = torch.zeros(6).index_add_(0, groups, exact[0].softmax(-1))
    found = groups[drawn].bincount(minlength=6) / count
    assert true.min() > 0.02
    assert ((found - true).abs() < 4.5 * (true * (1 - true) / count).sqrt()).all()
    before = logits.clone()
    ids = {screened.draw(logits, hidden, n / 20, 1.0) for n in range(20)}
    assert all(logits[0, id] == screened._exact(hidden, torch.tensor([[id]])) for id in ids)
    assert any(logits[0, id] != before[0, id] for id in ids)


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
def test_under_a_screened_head_each_draws_in_company_what_it_draws_alone() -> None:
    model = tiny.make_model("llama", vocab_size=5_000)
    tiny.add_adapters(model)
    engine = Engine(model, fold(model, ["first", "second"], torch.float32))
    engine.head = ScreenedHead(model.lm_head.weight.detach())
    engine.step_rows = 0
    rows = [*ROWS, Row(PROMPTS[1]), Row(PROMPTS[0], 2)]
    settings = [Sampling(NEW), WARM, Sampling(NEW, 1.0, seed=9), Sampling(NEW, 0.6, seed=4)]
    settings.append(Sampling(NEW, 0.7, top_k=5, seed=3))
    alone = [texts(engine, [row], one)[0] for row, one in zip(rows, settings, strict=True)]
    for turn in (1, -1):
        begun = [begin(engine, *one) for one in list(zip(rows, settings, strict=True))[::turn]]
        said = [[first.id] for _, first in begun]
        for _ in range(NEW - 1):
            for text, picked in zip(said, step(engine, [row for row, _ in begun]), strict=True):
                text.append(picked.id)
        for row, _ in begun:
            engine.end(row)
        assert said[::turn] == alone


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, ""),
        ({"MAX_KL": 1e-12}, "it changes what is likely"),
        ({"MAX_LOSS": 1e-12}, "it changes what is likely"),
        (
            {"CANDIDATES": 1, "MAX_KL": 9e9, "MAX_LOSS": 9e9, "EightBit": None},
            "it changes what is likely",
        ),
        ({"_DEVIATIONS": 0.01}, "it is further off than a draw allows for"),
    ],
)
def test_a_head_is_screened_only_where_its_copy_passes(monkeypatch, limits, reason) -> None:
    from models.engine import eight_bit, head

    model = tiny.make_model("llama", vocab_size=5_000).bfloat16()
    torch.manual_seed(2)
    states, labels = [torch.randn(20, 32).bfloat16()], torch.randint(5_000, (20,))
    if limits.pop("EightBit", "") is None:  # a copy whose likeliest is not the likeliest
        multiply = head.EightBit.multiply

        def turned(copy, states, out):
            multiply(copy, states, out)
            out.neg_()

        monkeypatch.setattr(head.EightBit, "multiply", turned)
    for name, value in limits.items():
        monkeypatch.setattr(eight_bit if name == "_DEVIATIONS" else head, name, value)
    chosen, gate = head.choose_head(model, states, labels)
    assert (gate.used, gate.reason) == (not reason, reason)
    assert isinstance(chosen, ExactHead if reason else ScreenedHead)
    assert (gate.top1 < 1) == ("CANDIDATES" in limits)


def test_a_step_lets_slots_that_are_alike_look_together(monkeypatch) -> None:
    engine = make_engine("llama")
    rows = [Row((2, 7, 11) * length, n % 3) for n, length in enumerate((3, 30, 4, 31, 5))]
    running = [begin(engine, row, Sampling())[0] for row in rows]
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        "models.engine.attention.functional.scaled_dot_product_attention",
        lambda asked, *given, **how: calls.append(len(asked)) or kernel(asked, *given, **how),
    )
    engine.launch(running)()
    assert calls == [3, 2] * engine.shape.layers


def test_a_model_answers_through_its_engine_only() -> None:
    engine = make_engine("llama")
    with pytest.raises(RuntimeError, match="through its engine only"):
        engine.model(input_ids=torch.tensor([PROMPTS[0]]))


@pytest.mark.parametrize("sampling", [Sampling(60), Sampling(60, 0.4, top_p=0.9, seed=7)])
def test_guessing_changes_no_token_and_saves_steps(family, sampling) -> None:
    plain, guessing = make_engine(family), make_engine(family, step_rows=12)
    said = texts(plain, ROWS, sampling)
    assert texts(guessing, ROWS, sampling) == said
    steps = []
    guessing.model.base_model.register_forward_hook(lambda module, args, out: steps.append(1))
    assert [texts(guessing, [row], sampling)[0] for row in ROWS] == said
    if sampling.temperature == 0:  # greedy texts of a random model go round in circles
        assert len(steps) < 3 * 60


def test_guesses_follow_what_was_said_and_are_few_where_they_were_wrong() -> None:
    guesses = Guesses([1, 2, 3, 4, 5, 6, 9, 1])
    guesses.add([2])  # 1 2, after which came 3 4 5 6 9
    assert guesses.next(9) == [3, 4]  # two to try, for nothing was right so far
    assert guesses.next(3) == [3]  # and where there is little room, fewer
    assert guesses.next(2) == []
    guesses.add([3])
    assert guesses.next(3) == [4, 5, 6]
    guesses.add([4, 5, 6, 9])
    assert guesses.next(7) == [1, 2, 3, 4, 5, 6, 9]
    assert guesses.next(1) == [1]
    guesses.add([7])  # which was never said
    assert guesses.next(7) == []
    guesses.add([1])  # after which came 2 3
    assert guesses.next(7) == [2, 3]


def test_more_tokens_are_looked_up_before_fewer() -> None:
    guesses = Guesses([1, 2, 3, 4, 9, 2, 3, 7, 5, 1, 2])
    guesses.add([3])  # after 1 2 3 came 4, and after 2 3 last came 7
    guesses.add([4])
    assert guesses.next(2) == [9, 2]


@pytest.mark.parametrize("said", [[5], [5, 6], [5, 6, 7]])
def test_what_goes_round_in_few_tokens_is_guessed_to_go_on_round(said) -> None:
    guesses = Guesses([1, *said, *said])
    guesses.add([said[0]])
    ahead = (said * 9)[1:8]
    assert guesses.next(6) == ahead[:2]
    guesses.add(ahead[:1])
    assert guesses.next(9) == (said * 9)[2:9]


def test_guesses_leave_the_rows_of_others_their_room() -> None:
    engine = make_engine("llama", step_rows=4)
    fed = []
    engine.model.get_input_embeddings().register_forward_hook(
        lambda module, args, out: fed.append(out.shape[0])
    )
    texts(engine, ROWS, Sampling(60))
    assert max(fed) == 4


@pytest.mark.parametrize(
    ("dtype", "scaling"),
    [(torch.bfloat16, 2.0), (torch.float32, 2.0), (torch.float32, 1.1)],
    ids=["bfloat16", "float32, told by float16", "float32"],
)
@pytest.mark.parametrize("rank", [1, 6, 16])
def test_held_stacks_give_each_row_what_it_gets_alone(rank, dtype, scaling) -> None:
    torch.manual_seed(rank)
    width = 64 if dtype == torch.bfloat16 else 640  # which fill FBGEMM's blocks
    base = torch.nn.Linear(width, 48, bias=False).to(torch.bfloat16)
    a, b = (torch.randn(shape).to(torch.bfloat16) for shape in ((width, 2 * rank), (2 * rank, 48)))
    base = base if dtype == torch.bfloat16 else Dense(base.weight, None)
    carried = Carried(2, rank, torch.empty(0, dtype=dtype))
    stack = StackedLora(base, a.to(dtype), scaling * b.to(dtype), carried)
    carriers = [(n % 3, 1.0 - n % 2 / 2) for n in range(24)]
    narrow = dtype == torch.bfloat16
    x = torch.randn(24, 1, width).to(dtype) / (1 if narrow else 64)
    near = {"rtol": 0.02, "atol": 0.1} if narrow else {}
    with torch.inference_mode():
        carried.select(carriers)
        before, held = stack(x), stack.nbytes
        stack.hold()
        torch.testing.assert_close(stack(x), before, **near)
        half = dtype == torch.float32 and has_fbgemm()
        beside = half and scaling == 2  # B lies where the base's columns are filled up
        assert (stack.held[1] is None) == beside
        a_bytes, b_bytes = 2 * 1024 * 2 * rank, 4 * 48 * 2 * rank
        assert stack.nbytes == (a_bytes + (not beside) * b_bytes if half else held)
        whole = stack(x)
        for n, carrier in enumerate(carriers):
            carried.select([carrier])
            assert torch.equal(stack(x[n, None])[0], whole[n]), n


def test_a_static_step_holds_what_changes_between_steps() -> None:
    engine, plain = make_engine("gemma3", lanes=True), make_engine("gemma3")
    rows = [Row(PROMPTS[0], 1, 0.5), Row(PROMPTS[1], 2, 1.5), Row(PROMPTS[2], 1)]
    assert texts(engine, rows) == texts(plain, rows)
    assert texts(engine, rows[::-1]) == texts(plain, rows[::-1])  # other adapters in the same lanes
    assert len(engine._steps._made) == 1  # one graph would have served both


def test_lanes_that_are_all_taken_are_no_memory() -> None:
    engine = make_engine("llama", lanes=True)
    for _ in range(5):
        begin(engine, ROWS[0], Sampling())
    with pytest.raises(MemoryError, match="every lane is taken"):
        engine.begin(ROWS[1], Sampling())


def test_a_draw_beyond_what_a_static_step_sorts_is_made_among_all(monkeypatch) -> None:
    flat = Sampling(NEW, temperature=10.0, top_p=0.95, seed=5)
    expected = texts(make_engine("llama"), ROWS, flat)
    monkeypatch.setattr("models.engine.draws.draw.__defaults__", (8,))
    assert texts(make_engine("llama", lanes=True), ROWS, flat) == expected
    assert texts(make_engine("llama"), ROWS, flat) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_says_what_an_eager_one_says(family) -> None:
    expected = texts(make_engine(family), ROWS, WARM)
    model, carried = make_model(family)
    model = model.to("cuda")
    carried._like = carried._like.to("cuda")
    engine = Engine(model, carried)
    engine.use_lanes(5, 80)
    assert texts(engine, ROWS, WARM) == expected
    assert engine._steps.captures


def test_a_step_that_fails_for_memory_leaves_all_rows_as_they_were(monkeypatch) -> None:
    engine = make_engine("gemma3")
    whole = texts(engine, ROWS)
    begun = [begin(engine, row, Sampling(NEW)) for row in ROWS]
    said = [[first.id] for _, first in begun]
    forward, fails = engine.model.base_model.forward, iter([False, True, False, True])

    def failing(*args, **kwargs):
        out = forward(*args, **kwargs)
        if next(fails, False):
            raise torch.OutOfMemoryError("no memory")
        return out

    monkeypatch.setattr(engine.model.base_model, "forward", failing)
    while len(said[0]) < NEW:
        try:
            picked = step(engine, [row for row, _ in begun])
        except torch.OutOfMemoryError:
            continue
        for text, one in zip(said, picked, strict=True):
            text.append(one.id)
    assert said == whole


def test_two_hundred_cancelled_rows_leave_nothing_behind() -> None:
    engine = make_engine("gemma3", chunk=4)

    def cancel(count: int) -> tuple[int, int, int]:
        for n in range(count):
            running, _ = begin(engine, Row((n % 90, *range(30, 50)), n % 3), WARM)
            step(engine, [running])
            engine.end(running)
        gc.collect()
        tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
        hooks = sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in engine.model.modules()
        )
        return len(tensors), sum(one.nbytes for one in tensors), hooks

    engine.prefixes.tokens = 100
    before = cancel(20)
    assert cancel(200) == before


def draw(probabilities, uniforms, **settings) -> list[int]:
    logits = torch.tensor(probabilities).log().expand(len(uniforms), -1)
    sampling = Sampling(temperature=settings.pop("temperature", 1.0), **settings)
    return pick(logits, uniforms, [sampling] * len(uniforms))[0].tolist()


def test_greedy_takes_the_likeliest_and_tells_its_log_probability() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]).log()
    ids, logprobs = pick(logits, [0.0, 0.0], [Sampling()] * 2)
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
    _, logprobs = pick(logits, [0.0], [Sampling(temperature=3.0, top_k=1)])
    torch.testing.assert_close(logprobs, torch.tensor([0.6]).log())


def test_a_wide_nucleus_is_not_narrowed() -> None:
    # 10,000 equal tokens: a nucleus of 0.9 holds 9,000 of them, more than are sorted first.
    logits = torch.zeros(1, 10_000)
    ids, _ = pick(logits, [0.9999], [Sampling(temperature=1.0, top_p=0.9)])
    assert ids.item() in range(8_990, 9_001)  # the lowest of equals come first


@pytest.mark.parametrize("uniform", [0.0, 0.02, 0.03, 0.3, 0.39, 0.41, 0.999])
def test_a_draw_beyond_what_is_sorted_first_is_made_among_all(uniform) -> None:
    # 10,000 tokens, each a little less likely than the one before it; 256 of them are sorted
    # first, then 4,096, then all.
    logits = -torch.arange(10_000.0)[None] / 10_000
    mass = logits[0].double().softmax(-1)
    ids, _ = pick(logits, [uniform], [Sampling(temperature=1.0)])
    assert ids.item() == int((mass.cumsum(-1) <= uniform).sum())
    wide, _ = pick(logits, [uniform], [Sampling(temperature=1.0, top_k=9_000)])
    kept = mass[:9_000] / mass[:9_000].sum()
    assert wide.item() == int((kept.cumsum(-1) <= uniform).sum())


def test_of_equals_the_lowest_comes_first() -> None:
    ids, _ = pick(torch.zeros(1, 200), [0.31], [Sampling(temperature=1.0, top_p=0.5)])
    assert ids.item() == 31


@pytest.mark.parametrize("vocabulary", [65_536, 9_999])
def test_a_draw_from_all_goes_through_the_tokens_in_the_order_of_their_ids(vocabulary) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, vocabulary)
    reach = (logits[0].double() / 0.7).softmax(-1).cumsum(-1)
    edges = [0.0, *reach[torch.randint(vocabulary, (40,))].tolist()]
    for uniform in (one + off for one in edges for off in (1e-6, 0.011, 0.21)):
        if uniform < 1:
            ids, _ = pick(logits, [uniform], [Sampling(temperature=0.7)])
            above = float(reach[ids.item()])
            below = float(reach[ids.item() - 1]) if ids.item() else 0.0
            assert below - 1e-6 <= uniform <= above + 1e-6


def test_a_draw_below_bounds_is_the_one_that_all_logits_would_give() -> None:
    torch.manual_seed(0)
    logits, asked = 2 * torch.randn(24), []
    most = logits + 2 * torch.rand(24)

    def logit(id: int) -> float:
        asked.append(id)
        return float(logits[id])

    count = 20_000
    draws = torch.tensor(
        [draw_below(most[None], logit, lambda: logits[None], n / count, 1.5) for n in range(count)]
    )
    found, true = draws.bincount(minlength=24) / count, (logits / 1.5).softmax(-1)
    assert ((found - true).abs() < 4.5 * (true * (1 - true) / count).sqrt() + 1e-4).all()
    assert len(asked) > 1.5 * count  # many were refused
    again = [
        draw_below(most[None], logit, lambda: logits[None], n / count, 1.5) for n in range(100)
    ]
    assert again == draws[:100].tolist()


def test_a_draw_below_bounds_that_say_little_asks_for_all_logits() -> None:
    torch.manual_seed(0)
    logits, asked, count = torch.randn(500), [], 4_000
    most = logits + torch.linspace(9, 7, 500)

    def logit(id: int) -> float:
        asked.append(id)
        return float(logits[id])

    draws = [
        draw_below(most[None], logit, lambda: logits[None], n / count, 2.0) for n in range(count)
    ]
    assert count < len(asked) <= REFUSALS * count
    groups = torch.tensor(draws) // 100
    found, true = groups.bincount() / count, (logits / 2).softmax(-1).view(5, 100).sum(1)
    assert ((found - true).abs() < 4.5 * (true * (1 - true) / count).sqrt()).all()


@pytest.mark.parametrize("masked", [slice(0, 1), slice(0, 640), slice(100, 4_095)])
def test_a_token_that_cannot_be_said_is_not_drawn_and_harms_none(masked) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 4_096)
    logits[0, masked] = -torch.inf
    uniforms = [n / 50 for n in range(50)]
    for sampling in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.9)):
        ids, logprobs = pick(logits.expand(50, -1), uniforms, [sampling] * 50)
        assert logits[0, ids].isfinite().all()
        torch.testing.assert_close(logprobs, logits[0].double().log_softmax(-1)[ids].float())
    assert len(set(ids.tolist())) > 10 or masked.stop == 4_095


def test_more_candidates_are_sorted_where_those_left_out_may_be_as_likely() -> None:
    logits = torch.zeros(1, 4_000)
    for top_k in (FEW, 4_000, 5_000):
        ids, _ = pick(logits, [0.50001], [Sampling(temperature=1.0, top_k=top_k)])
        assert ids.item() == min(top_k, 4_000) // 2


def test_draws_have_the_distribution_they_should() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 50)
    uniforms = ((torch.arange(20_000) + 0.5) / 20_000).tolist()
    sampling = Sampling(temperature=0.8, top_k=20)
    ids, _ = pick(logits.expand(20_000, -1), uniforms, [sampling] * 20_000)
    expected = (logits[0] / 0.8).masked_fill(logits[0] < logits[0].topk(20).values[-1], -torch.inf)
    found = torch.bincount(ids, minlength=50) / 20_000
    torch.testing.assert_close(found, expected.softmax(-1), rtol=0, atol=1e-4)


class Fixed(torch.nn.Module):
    """A model that is its head: states are what the head makes logits of."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.config = self

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.linear

    def get_text_config(self) -> Fixed:
        return self


@torch.inference_mode()
def test_equal_logits_cost_the_log_of_the_vocabulary() -> None:
    head, states = ExactHead(Fixed(torch.zeros(1000, 8))), torch.ones(20, 8)
    found = expected(head, states, [*[7] * 19, None], 5, Sampling())
    assert [one.nats for one in found[:-1]] == pytest.approx([math.log(1000)] * 19)
    assert [one.rank for one in found[:-1]] == [1] * 19
    assert (found[-1].nats, found[-1].rank) == (None, None)
    assert found[0].p == pytest.approx((0.001,) * 5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mass_of_all_tokens_is_one(dtype) -> None:
    torch.manual_seed(0)
    weight, states = 3 * torch.randn(64, 32, dtype=dtype), torch.randn(5, 32, dtype=dtype)
    found = expected(ExactHead(Fixed(weight)), states, range(5), 64, Sampling())
    exact = (states.float() @ weight.float().T).log_softmax(-1)
    for n, one in enumerate(found):
        assert sum(one.p) == pytest.approx(1, abs=1e-5)
        assert one.p == pytest.approx(exact[n, list(one.ids)].exp().tolist(), abs=1e-5)
        assert one.nats == pytest.approx(-float(exact[n, n]), abs=1e-4)
        assert one.rank == 1 + int((exact[n] > exact[n, n]).sum())


@torch.inference_mode()
def test_no_token_is_more_likely_than_certain() -> None:
    """In bf16 a logit about 40 is off by up to an eighth."""
    torch.manual_seed(1)
    weight = torch.randn(4096, 64, dtype=torch.bfloat16)
    states = weight[:50] * 0.7 + 0.01 * torch.randn(50, 64, dtype=torch.bfloat16)
    found = expected(ExactHead(Fixed(weight)), states, range(50), 3, Sampling())
    assert all(one.nats >= 0 and sum(one.p) <= 1 + 1e-5 for one in found)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=7),
        Sampling(temperature=1.3, top_p=0.9),
        Sampling(temperature=0.5, top_p=0.5, top_k=40),
        Sampling(temperature=2.0, top_p=0.99),
        Sampling(temperature=1.0, top_p=0.5, top_k=1000),  # more than there are tokens
    ],
)
def test_after_the_sampler_a_token_is_as_likely_as_it_is_drawn(sampling) -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(1, 200)
    top = logits.sort(-1, descending=True).values
    found = after_sampler(top, logits, logits.logsumexp(-1), sampling)[0]
    order = logits[0].argsort(descending=True)
    draws = 4000
    ids, _ = pick(logits.expand(draws, -1), [n / draws for n in range(draws)], [sampling] * draws)
    drawn = ids.bincount(minlength=200)[order] / draws
    assert found.tolist() == pytest.approx(drawn.tolist(), abs=2 / draws)
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)


def test_a_greedy_sampler_is_sure() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    found = after_sampler(logits, logits, logits.logsumexp(-1), Sampling())
    assert found.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("vocabulary", [4096, 4099, 90])
def test_the_largest_logits_are_found_in_two_stages(vocabulary) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, vocabulary)
    found = top_ids(logits, 64)
    for row, ids in zip(logits, found, strict=True):
        assert set(ids.tolist()) == set(row.topk(64).indices.tolist())
