"""Penalties: as transformers applies them, the same in any company, head and step."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny_engine import NEW, ROWS, begin, generated, make_engine, step, texts

from models.engine.engine import Engine
from models.engine.layers.packed_matmul import has_fbgemm
from models.engine.sampling.lm_head import ScreenedHead
from models.types import Sampling

SETTINGS = [
    Sampling(NEW, repetition_penalty=1.3),
    Sampling(NEW, presence_penalty=0.5, frequency_penalty=0.3),
    Sampling(NEW, 1.0, repetition_penalty=1.3, seed=5),
    Sampling(NEW, 0.8, top_p=0.9, frequency_penalty=1.0, seed=6),
    Sampling(NEW, presence_penalty=-1.5),
]


@pytest.mark.parametrize("lanes", [False, True])
def test_a_repetition_penalty_says_what_transformers_says(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    for row in ROWS:
        plain = texts(engine, [row])
        (said,) = texts(engine, [row], SETTINGS[0])
        assert said == generated(family, row.adapter, row.ids, repetition_penalty=1.3)
        assert said != plain[0]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_guesses_change_no_token_under_penalties(sampling) -> None:
    plain, guessing = make_engine("gemma3"), make_engine("gemma3", guesses=7)
    assert texts(guessing, ROWS, sampling) == texts(plain, ROWS, sampling)


@pytest.mark.parametrize("lanes", [False, True])
def test_each_row_has_its_own_penalties_in_any_company(lanes) -> None:
    engine = make_engine("llama", lanes=lanes)
    rows = [ROWS[n % len(ROWS)] for n in range(len(SETTINGS))]
    alone = [texts(engine, [row], own)[0] for row, own in zip(rows, SETTINGS, strict=True)]
    begun = [begin(engine, row, own) for row, own in zip(rows, SETTINGS, strict=True)]
    together = [[first.id] for _, first in begun]
    for _ in range(NEW - 1):
        for text, token in zip(together, step(engine, [row for row, _ in begun]), strict=True):
            text.append(token.id)
    assert together == alone


def test_a_frequency_penalty_keeps_a_token_from_coming_again_and_again() -> None:
    (said,) = texts(make_engine("llama"), ROWS[:1], Sampling(60, frequency_penalty=2.0))
    (looping,) = texts(make_engine("llama"), ROWS[:1], Sampling(60))
    most, usual = (max(map(text.count, text)) for text in (said, looping))
    assert most < usual


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@pytest.mark.parametrize("sampling", SETTINGS[:2])
def test_under_a_screened_head_the_text_is_the_exact_ones(sampling) -> None:
    model = tiny.make_model("llama", vocab_size=5_000)
    engine = Engine(model, tiny.stack(model))
    engine.max_guesses = 0
    exact = texts(engine, ROWS, sampling)
    engine.lm.head = ScreenedHead(model.lm_head.weight.detach())
    assert texts(engine, ROWS, sampling) == exact


@pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")
@torch.inference_mode()
def test_a_screened_head_draws_from_all_under_penalties() -> None:
    torch.manual_seed(1)
    weight, hidden = (0.3 * torch.randn(5_000, 64)).bfloat16(), torch.randn(1, 64).bfloat16()
    screened, count = ScreenedHead(weight), 4_000
    exact = (hidden.float() @ weight.float().T).bfloat16().float()
    said = exact[0].topk(40).indices[::2]  # some of the likeliest, and some of the tail
    said = torch.cat([said, torch.arange(100, 120)])
    exact[0, said] -= 1.5
    logits = screened(hidden, exact={0: said}).clone()
    penalties = dict(zip(said.tolist(), exact[0, said].tolist(), strict=True))
    drawn = torch.tensor(
        [
            screened.sample(logits.clone(), hidden, (n + 0.5) / count, 1.0, penalties)
            for n in range(count)
        ]
    )
    groups = torch.arange(5_000) // 1_000
    groups[exact[0].topk(200).indices] = 5
    groups[said] = 6
    true = torch.zeros(7).index_add_(0, groups, exact[0].softmax(-1))
    frequencies = groups[drawn].bincount(minlength=7) / count
    assert ((frequencies - true).abs() < 4.5 * (true * (1 - true) / count).sqrt()).all()
