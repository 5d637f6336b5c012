"""The second stage: answers that loop are found, and what they repeat becomes unlikely."""

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
from models.tuning import trainer, unlikelihood
from models.tuning.answers import greedy_answers
from models.tuning.progress import Answered
from models.tuning.recipe import Lora, Recipe, Training, Unlikelihood, read_recipe
from models.tuning.trainer import TokenizedExample
from models.tuning.unlikelihood import Pair, SecondStageFigures

EOS = 1
TRAINING = "[training]\nlearning_rate = 1e-3\nbatch_rows = 2\nepochs = 1\nmax_tokens = 9\n"
SETTINGS = Unlikelihood(5e-3, 4, 3, save_every=2, prompts=12, max_new_tokens=60)
TRAINED = Training(1e-2, 4, 2, max_tokens=64)
RECIPE = Recipe("r", "chat", "x", 0, Lora(2, 4), TRAINED, (), unlikelihood=SETTINGS)


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


def answers_to(model, asked: list[TokenizedExample]) -> list[tuple[int, ...]]:
    answers: dict[int, tuple[int, ...]] = {}
    for batch in greedy_answers(model, [row.prompt for row in asked], EOS, 60):
        answers |= batch
    return [answers[n] for n in range(len(asked))]


def looping_pairs(model) -> list[Pair]:
    asked = rows(12)
    answers = zip(asked, answers_to(model, asked), strict=True)
    return [Pair(row, replace(row, completion=a)) for row, a in answers if looped(a)]


def second_stage(out, figures, steps=None, *, asked=12, recipe=RECIPE, settings=SETTINGS):
    out.mkdir(exist_ok=True)
    model, losses = model_with_adapter(), []
    for progress in unlikelihood.second_stage(
        model, rows(asked), rows(asked + 4)[asked:], recipe, settings, out, figures
    ):
        if isinstance(progress, Answered):
            assert 0 < progress.done <= progress.total == asked
            continue
        losses.append(progress.loss)
        if progress.done == steps:
            break
    return model, losses


@pytest.mark.parametrize("at_once", [2, 32])
def test_answers_are_those_of_generate_alone_up_to_their_end(monkeypatch, at_once) -> None:
    monkeypatch.setattr("models.tuning.answers.ROWS", at_once)
    asked = rows(7)
    answers = answers_to(model_with_adapter(), asked)
    for row, answer in zip(asked, answers, strict=True):
        whole = generated("gemma3", 0, row.prompt, max_new_tokens=60, min_new_tokens=60)
        end = whole.index(EOS) if EOS in whole else 60
        assert list(answer) == whole[: len(answer)]
        assert len(answer) == end or (looped(answer) and not looped(answer[:-1]))
    assert any(map(looped, answers))  # greedy answers of a random model go round


def test_an_answer_that_ends_leaves_the_others_as_they_are() -> None:
    asked = rows(6)
    answers = answers_to(model_with_adapter(), asked)
    ends = answers[0][2]  # the token that one of them says third is taken as the end of text
    prompts = [row.prompt for row in asked]
    (cut,) = greedy_answers(model_with_adapter(), prompts, ends, 60)
    for n, answer in enumerate(answers):
        assert cut[n] == (answer[: answer.index(ends)] if ends in answer else answer)


def test_the_loss_is_of_repeated_tokens_and_a_share_of_the_ordinary_one() -> None:
    model = model_with_adapter()
    pairs = looping_pairs(model)[:3]
    loss, count = unlikelihood.unlikelihood_loss(model, pairs, 0.2)
    expected = 0.0
    for pair in pairs:
        answer = pair.looping.completion
        losses, _ = trainer.batch_losses(model, [pair.looping])
        again = losses[-repeated(answer) :]
        assert 8 <= len(again) < len(answer)
        expected += float(-torch.log1p(-torch.exp(-again.detach().double())).mean())
        ordinary, tokens = trainer.batch_loss(model, [pair.human])
        expected += 0.2 * ordinary.item() / tokens
    assert count == len(pairs)
    assert loss.item() == pytest.approx(expected, rel=1e-3)
    loss.backward()
    assert any(float(p.grad.norm()) > 0 for p in model.parameters() if p.requires_grad)


def test_a_certain_token_has_a_bounded_loss_with_a_gradient(monkeypatch) -> None:
    certain = torch.full((20,), 1e-7, requires_grad=True)
    monkeypatch.setattr(unlikelihood, "batch_losses", lambda *_: (certain, torch.zeros(20)))
    looping = TokenizedExample((2, 3), tuple([5, 6, 7] * 6))
    pair = Pair(TokenizedExample((2, 3), (4, EOS)), looping)
    loss, _ = unlikelihood.unlikelihood_loss(model_with_adapter(), [pair], 0.0)
    loss.backward()
    assert 11 < loss.item() < 12
    assert 0 < float(certain.grad.abs().max()) < 1e5


def test_what_was_repeated_becomes_unlikely(tmp_path) -> None:
    alone = replace(SETTINGS, learning_rate=0.1, epochs=12, likelihood_weight=0.0)
    _, losses = second_stage(tmp_path, SecondStageFigures(), settings=alone)
    assert losses[-1] < 0.7 * losses[0]  # of a random model all tokens are unlikely


def test_a_run_that_was_ended_goes_on_to_the_same_result(tmp_path) -> None:
    whole, resumed = SecondStageFigures(), SecondStageFigures()
    model, losses = second_stage(tmp_path / "whole", whole)
    stored = json.loads((tmp_path / "whole" / "pairs.json").read_text())
    assert whole.looping_answers == len(stored["pairs"]) > 0
    assert 0 <= whole.looped_after <= whole.looped_before <= 1
    assert [number for number, _ in whole.unlikelihood_curve] == list(range(1, len(losses) + 1))
    second_stage(tmp_path / "parts", SecondStageFigures(), steps=3)
    again, also = second_stage(tmp_path / "parts", resumed)
    assert (also, resumed) == (losses, whole)
    for (name, expected), (_, other) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(expected, other), name


def test_it_ends_after_the_epoch_in_which_held_out_answers_are_cured(tmp_path) -> None:
    all_epochs, one = SecondStageFigures(), SecondStageFigures()
    _, losses = second_stage(tmp_path / "all", all_epochs)
    _, fewer = second_stage(tmp_path / "one", one, settings=replace(SETTINGS, stop_at=1.0))
    assert len(losses) == 3 * len(fewer)  # its default, 0, asks for no looping answer at all
    assert len(fewer) == -(-one.looping_answers // SETTINGS.batch_rows)


def test_it_may_be_ended_before_an_epoch(tmp_path) -> None:
    settings = replace(SETTINGS, batch_rows=1, epochs=4, max_steps=2)
    _, losses = second_stage(tmp_path, SecondStageFigures(), settings=settings)
    assert len(losses) == 2


@pytest.mark.parametrize(("seed", "asked"), [(1, 12), (0, 13)])
def test_pairs_of_another_recipe_or_of_other_rows_are_refused(tmp_path, seed, asked) -> None:
    second_stage(tmp_path, SecondStageFigures(), steps=1)
    recipe = replace(RECIPE, seed=seed)
    with pytest.raises(WeightsError, match=r"pairs\.json is of another recipe"):
        second_stage(tmp_path, SecondStageFigures(), asked=asked, recipe=recipe)


def test_the_settings_of_the_second_stage_may_change_before_it_has_a_checkpoint(tmp_path) -> None:
    second_stage(tmp_path, SecondStageFigures(), steps=1)
    before = (tmp_path / "pairs.json").read_bytes()
    settings = replace(SETTINGS, learning_rate=1e-3)
    second_stage(tmp_path, SecondStageFigures(), settings=settings)
    assert (tmp_path / "pairs.json").read_bytes() == before
    with pytest.raises(WeightsError, match=r"second_stage\.pt is of another recipe"):
        second_stage(tmp_path, SecondStageFigures())


@pytest.mark.parametrize("text", ['{"identity": "', "[]", "null", "{}", '{"identity": 3}'])
def test_damaged_pairs_are_named(tmp_path, text) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(WeightsError, match=r"pairs\.json is (damaged\. Remove it|of another)"):
        second_stage(tmp_path, SecondStageFigures())


def test_where_nothing_loops_nothing_is_changed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unlikelihood, "looped", lambda answer: False)
    figures = SecondStageFigures()
    model, losses = second_stage(tmp_path, figures)
    assert losses == []
    assert (figures.looping_answers, figures.looped_before, figures.looped_after) == (0, 0, 0)
    for (name, expected), (_, after) in zip(
        model_with_adapter().named_parameters(), model.named_parameters(), strict=True
    ):
        assert torch.equal(expected, after), name


def test_pairs_are_of_the_held_out_rows_too(tmp_path) -> None:
    second_stage(tmp_path, SecondStageFigures(), steps=1)
    others = unlikelihood.second_stage(
        model_with_adapter(), rows(12), [], RECIPE, SETTINGS, tmp_path, SecondStageFigures()
    )
    with pytest.raises(WeightsError, match=r"pairs\.json is of another recipe"):
        next(others)


def test_a_prompt_is_answered_once_and_plain_texts_never() -> None:
    row = rows(1)[0]
    plain = TokenizedExample((2,), row.completion)
    assert unlikelihood._with_prompts([row, plain, row, plain]) == [row]


STAGE = "learning_rate = 1e-3\nbatch_rows = 2\nepochs = 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unlikelihood = 3\n", "unlikelihood must be a table, not 3"),
        ("[unlikelihood]\nprompts = 3\n", "unlikelihood: key 'learning_rate' is missing"),
        (f"[unlikelihood]\n{STAGE}", "unlikelihood: key 'prompts' is missing"),
        (f"[unlikelihood]\n{STAGE}beta = 3\n", "unlikelihood: unknown key 'beta'"),
        (
            f"[unlikelihood]\n{STAGE}prompts = 0\n",
            "prompts is 0; it must be a whole number above 0",
        ),
        (
            f"[unlikelihood]\n{STAGE}prompts = 9\nstop_at = 5\n",
            "stop_at is 5; it must be a number from 0 to 1",
        ),
    ],
)
def test_a_mistake_in_the_second_stage_says_where(tmp_path, text, says) -> None:
    path = tmp_path / "mine.toml"
    head = 'name = "x"\nwraps = "chat"\nbase = "b"\nseed = 0\n'
    path.write_text(f"{head}{text}[lora]\nrank = 2\nalpha = 4\n{TRAINING}[[sources]]\n")
    with pytest.raises(TrioError, match=says):
        read_recipe(path)
