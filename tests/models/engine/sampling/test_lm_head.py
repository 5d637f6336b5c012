"""The output head, screened in 8 bits, against the exact one."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny_engine import NEW, PROMPTS, ROWS, WARM, begin, step, texts

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.packed_matmul import has_fbgemm
from models.engine.sampling.lm_head import CANDIDATES, SAMPLING_CANDIDATES, ExactHead, ScreenedHead
from models.engine.sampling.logits import top_ids
from models.types import Sampling


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_screened_head_is_exact_for_what_is_likely_and_the_same_in_any_company(dtype) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(40_000, 64).bfloat16(), torch.randn(9, 64).to(dtype)
    screened = ScreenedHead(weight)
    with torch.inference_mode():
        exact, logits = (hidden @ weight.to(dtype).T).float(), screened(hidden).clone()
        alone = [screened(hidden[n : n + 1])[0].clone() for n in range(9)]
        drawn = screened(hidden, [1, 4]).clone()
        alone_drawn = screened(hidden[4:5], [0])[0].clone()
    for rows, count in ((logits, CANDIDATES), (drawn[[1, 4]], SAMPLING_CANDIDATES)):
        true = exact if rows is logits else exact[[1, 4]]
        likely = true.topk(count // 4)
        torch.testing.assert_close(rows.gather(1, likely.indices), likely.values)
        torch.testing.assert_close(rows.topk(count // 4).values, likely.values)
    assert torch.equal(logits.argmax(-1), exact.argmax(-1))
    assert torch.equal(torch.stack(alone), logits)
    assert torch.equal(alone_drawn, drawn[4])
    assert torch.equal(logits[[0, 2, 3]], drawn[[0, 2, 3]])
    assert not torch.equal(logits[1], drawn[1])
    assert not torch.equal(exact, logits)  # or the copy would be no copy


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
        [screened.sample(logits.clone(), hidden, (n + 0.5) / count, 1.0) for n in range(count)]
    )
    # The 256 likeliest, that are known, and all others by the thousands of their ids.
    groups = torch.arange(5_000) // 1_000
    groups[exact[0].topk(SAMPLING_CANDIDATES).indices] = 5
    true = torch.zeros(6).index_add_(0, groups, exact[0].softmax(-1))
    frequencies = groups[drawn].bincount(minlength=6) / count
    assert true.min() > 0.02
    assert ((frequencies - true).abs() < 4.5 * (true * (1 - true) / count).sqrt()).all()
    before = logits.clone()
    ids = {screened.sample(logits, hidden, n / 20, 1.0) for n in range(20)}
    assert all(logits[0, id] == screened._exact(hidden, torch.tensor([[id]])) for id in ids)
    assert any(logits[0, id] != before[0, id] for id in ids)


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
def test_under_a_screened_head_each_draws_in_company_what_it_draws_alone() -> None:
    model = tiny.make_model("llama", vocab_size=5_000)
    engine = Engine(model, tiny.stack(model))
    engine.lm.head = ScreenedHead(model.lm_head.weight.detach())
    engine.max_guesses = 0
    rows = [*ROWS, SequenceSpec(PROMPTS[1]), SequenceSpec(PROMPTS[0], 2)]
    settings = [Sampling(NEW), WARM, Sampling(NEW, 1.0, seed=9), Sampling(NEW, 0.6, seed=4)]
    settings.append(Sampling(NEW, 0.7, top_k=5, seed=3))
    alone = [
        texts(engine, [row], sampling)[0] for row, sampling in zip(rows, settings, strict=True)
    ]
    for turn in (1, -1):
        begun = [begin(engine, *pair) for pair in list(zip(rows, settings, strict=True))[::turn]]
        sequences = [[first.id] for _, first in begun]
        for _ in range(NEW - 1):
            for text, picked in zip(
                sequences, step(engine, [row for row, _ in begun]), strict=True
            ):
                text.append(picked.id)
        for row, _ in begun:
            engine.remove(row)
        assert sequences[::turn] == alone


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, ""),
        ({"MAX_KL": 1e-12}, "it changes what is likely"),
        ({"MAX_LOSS_CHANGE": 1e-12}, "it changes what is likely"),
        (
            {"CANDIDATES": 1, "MAX_KL": 9e9, "MAX_LOSS_CHANGE": 9e9, "EightBit": None},
            "it changes what is likely",
        ),
        ({"_DEVIATIONS": 0.01}, "it is further off than a draw allows for"),
    ],
)
def test_a_head_is_screened_only_where_its_copy_passes(monkeypatch, limits, reason) -> None:
    from models.engine.sampling import int8_matmul, lm_head

    model = tiny.make_model("llama", vocab_size=5_000).bfloat16()
    torch.manual_seed(2)
    states, labels = [torch.randn(20, 32).bfloat16()], torch.randint(5_000, (20,))
    if limits.pop("EightBit", "") is None:  # a copy whose likeliest is not the likeliest
        multiply = lm_head.Int8Matrix.multiply

        def turned(copy, states, out):
            multiply(copy, states, out)
            out.neg_()

        monkeypatch.setattr(lm_head.Int8Matrix, "multiply", turned)
    for name, value in limits.items():
        monkeypatch.setattr(int8_matmul if name == "_DEVIATIONS" else lm_head, name, value)
    exact = ExactHead(model)
    assert not lm_head.reason_not_to_screen(exact)
    with torch.inference_mode():
        gate = lm_head.measure_head(exact, ScreenedHead(exact.linear.weight), states, labels)
    assert (gate.used, gate.reason) == (not reason, reason)
    assert (gate.top1 < 1) == ("CANDIDATES" in limits)


@pytest.mark.parametrize("vocabulary", [4096, 4099, 90])
def test_the_largest_logits_are_found_in_two_stages(vocabulary) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, vocabulary)
    top = top_ids(logits, 64)
    for row, ids in zip(logits, top, strict=True):
        assert set(ids.tolist()) == set(row.topk(64).indices.tolist())
