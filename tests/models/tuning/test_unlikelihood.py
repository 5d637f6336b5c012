"""The second stage: pairs of a human answer and one that goes round, and what is learnt of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from tiny_engine import generated

from models import TrioError, WeightsError
from models.text.loops import looped, repeated
from models.tuning import preference, trainer
from models.tuning.recipe import Lora, Preference, Recipe, Training, read_recipe
from models.tuning.trainer import TokenizedExample

EOS = 1
TRAINING = "training]\nlearning_rate = 1e-3\nbatch_rows = 2\nepochs = 1\nmax_tokens = 9\n"
SETTINGS = Preference(Training(5e-3, 4, 3, 64, save_every=2), prompts=12, max_new_tokens=60)
RECIPE = Recipe("r", "chat", "x", 0, Lora(2, 4), Training(1e-2, 4, 2, 64), (), preference=SETTINGS)


def model_with_adapter():
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=tiny.LINEAR)
    return get_peft_model(tiny.make_model("gemma3"), config)


def rows(count: int) -> list[TokenizedExample]:
    draw = random.Random(0)
    return [
        TokenizedExample(
            tuple(draw.choices(range(4, 90), k=draw.randint(2, 9))),
            (*draw.choices(range(4, 90), k=draw.randint(8, 14)), EOS),
        )
        for _ in range(count)
    ]


def test_answers_are_those_of_generate_alone_up_to_their_end() -> None:
    asked = rows(5)
    answers = list(preference.greedy_answers(model_with_adapter(), asked, SETTINGS))
    for row, answer in zip(asked, answers, strict=True):
        whole = generated("gemma3", 0, row.prompt, max_new_tokens=60, min_new_tokens=60)
        end = whole.index(EOS) if EOS in whole else 60
        assert list(answer) == whole[: len(answer)]
        assert len(answer) == end or (looped(answer) and not looped(answer[:-1]))
    assert any(map(looped, answers))  # greedy answers of a random model go round


def test_pairs_are_answers_that_go_round_against_the_rows_own() -> None:
    asked = rows(12)
    model = model_with_adapter()
    pairs = preference.looping_pairs(model, asked, SETTINGS, 0)
    assert 1 <= len(pairs) <= 12
    for pair in pairs:
        assert pair.chosen in asked
        assert looped(pair.rejected.completion)
        assert pair.rejected.prompt == pair.chosen.prompt
        ids = torch.tensor([pair.rejected.prompt + pair.rejected.completion])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
            (chosen,), _ = preference._token_losses(model, [pair])
        places = range(len(pair.rejected.prompt) - 1, ids.shape[1] - 1)
        rejected = sum(float(logprobs[n, ids[0, n + 1]]) for n in places)
        assert pair.reference == pytest.approx(-float(chosen.sum()) - rejected, rel=1e-3)


def test_short_human_answers_are_not_tried() -> None:
    asked = [TokenizedExample((5, 6), (7, EOS))] * 9
    assert preference.looping_pairs(model_with_adapter(), asked, SETTINGS, 0) == []


def test_the_loss_is_dpo_and_a_share_of_the_ordinary_one() -> None:
    model = model_with_adapter()
    pairs = preference.looping_pairs(model, rows(12), SETTINGS, 0)[:3]
    with torch.no_grad():
        loss, count = preference.preference_loss(model, pairs, SETTINGS)
        ordinary = sum(
            float(trainer.batch_loss(model, [pair.chosen])[0]) / len(pair.chosen.completion)
            for pair in pairs
        )
    # Before the first step nothing has moved: the margin is the reference's, and -log σ(0) is ln 2.
    assert count == len(pairs)
    assert float(loss) == pytest.approx(count * 0.6931 + 0.2 * ordinary, rel=1e-3)


def test_unlikelihood_is_of_the_tokens_that_say_a_phrase_again() -> None:
    model = model_with_adapter()
    pairs = preference.looping_pairs(model, rows(12), SETTINGS, 0)[:3]
    settings = replace(SETTINGS, loss="unlikelihood", sft_weight=0.0)
    loss, _ = preference.preference_loss(model, pairs, settings)
    expected = 0.0
    for pair in pairs:
        answer = pair.rejected.completion
        (losses,) = preference._token_losses(model, [pair])[1]
        again = losses[-repeated(answer) :]
        assert 8 <= len(again) < len(answer)
        expected += float(-torch.log1p(-torch.exp(-again.detach().double())).mean())
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    loss.backward()
    assert any(float(p.grad.norm()) > 0 for p in model.parameters() if p.requires_grad)


def test_a_certain_token_has_a_gradient_of_unlikelihood() -> None:
    logits = torch.tensor([[16.0, 0.0, 0.0]], requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0]), reduction="none")
    assert losses.item() < 1e-6
    preference._unlikelihood(losses).backward()
    assert 1e-3 < float(logits.grad[0, 0]) < 1.1


def second_stage(out, figures, steps=None):
    out.mkdir(exist_ok=True)
    model, losses = model_with_adapter(), []
    for step in preference.second_stage(
        model, rows(12), rows(16)[12:], RECIPE, SETTINGS, out, figures
    ):
        losses.append(step.loss)
        if step.step == steps:
            break
    return model, losses


def test_it_learns_to_prefer_and_goes_on_where_it_was_ended(tmp_path) -> None:
    whole, resumed = preference.Figures(), preference.Figures()
    model, losses = second_stage(tmp_path / "whole", whole)
    assert losses[-1] < losses[0] - 0.1
    assert whole.pairs == len(json.loads((tmp_path / "whole" / "pairs.json").read_text())["pairs"])
    assert 0 <= whole.looped_after <= whole.looped_before <= 1
    assert [number for number, _ in whole.preference_curve] == list(range(1, len(losses) + 1))
    second_stage(tmp_path / "parts", preference.Figures(), steps=3)
    again, also = second_stage(tmp_path / "parts", resumed)
    assert (also, resumed) == (losses, whole)
    for (name, expected), (_, other) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(expected, other), name


def test_pairs_of_another_recipe_are_refused(tmp_path) -> None:
    second_stage(tmp_path, preference.Figures(), steps=1)
    other = Recipe("r", "chat", "x", 1, Lora(2, 4), Training(1e-2, 4, 2, 64), ())
    steps = preference.second_stage(
        model_with_adapter(), rows(12), [], other, SETTINGS, tmp_path, preference.Figures()
    )
    with pytest.raises(WeightsError, match=r"pairs\.json is of another recipe"):
        next(steps)


def test_damaged_pairs_are_named(tmp_path) -> None:
    (tmp_path / "pairs.json").write_text('{"recipe": "')
    steps = preference.second_stage(
        model_with_adapter(), rows(12), [], RECIPE, SETTINGS, tmp_path, preference.Figures()
    )
    with pytest.raises(WeightsError, match=r"pairs\.json is damaged\. Remove it"):
        next(steps)


def test_where_nothing_goes_round_nothing_is_changed(tmp_path) -> None:
    asked, figures = [TokenizedExample((5, 6), (7, EOS))] * 9, preference.Figures()
    steps = preference.second_stage(
        model_with_adapter(), asked, [], RECIPE, SETTINGS, tmp_path, figures
    )
    assert list(steps) == []
    assert (figures.pairs, figures.looped_after) == (0, None)


def test_a_prompt_is_answered_once_and_plain_texts_never() -> None:
    row = rows(1)[0]
    plain = TokenizedExample((2,), row.completion)
    assert preference._with_prompts([row, plain, row, plain]) == [row]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("preference = 3", "preference must be a table, not 3"),
        ("[preference]\nprompts = 3", "preference.training: key 'learning_rate' is missing"),
        (f"[preference]\nbeta = 3\n[preference.{TRAINING}", "preference: key 'prompts' is missing"),
        (f"[preference]\nbetta = 3\n[preference.{TRAINING}", "preference: unknown key 'betta'"),
    ],
)
def test_a_mistake_in_the_second_stage_says_where(tmp_path, text, says) -> None:
    path = tmp_path / "mine.toml"
    head = 'name = "x"\nwraps = "chat"\nbase = "b"\nseed = 0\n'
    path.write_text(f"{head}{text}\n[lora]\nrank = 2\nalpha = 4\n[{TRAINING}[[sources]]\n")
    with pytest.raises(TrioError, match=says):
        read_recipe(path)
