"""The second stage of training: a model's own answers that go round, against human ones.

DPO (Rafailov et al. 2305.18290) makes the human answer likelier than the looping one, compared with
the model that the first stage left; unlikelihood (Welleck et al. 1908.04319) makes the tokens that
say a phrase again unlikely. A share of the ordinary loss keeps the answers human.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import WeightsError
from models.text.loops import looped, repeated
from models.tuning.recipe import Preference, Recipe
from models.tuning.saving import writing
from models.tuning.trainer import (
    Step,
    TokenizedExample,
    batch_losses,
    epochs,
    run_steps,
)

ROWS = 32
"""Answers that are generated at the same time."""
MIN_COMPLETION = 8
"""Least tokens of a human answer to a prompt that is tried; short answers do not go round."""
EPSILON = 1e-5
"""Is added to 1 - p, so that a token that is all but certain has a gradient, too."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt."""

    chosen: TokenizedExample
    """The human answer."""
    rejected: TokenizedExample
    """The model's own, up to where it went round."""
    reference: float
    """How much likelier the chosen one was before this stage: a difference of log-probabilities."""

    def __len__(self) -> int:
        """Return the number of tokens of the longer row."""
        return max(len(self.chosen), len(self.rejected))


@dataclass(slots=True)
class Figures:
    """What the second stage did; nothing yet, and nothing if there is none."""

    pairs: int = 0
    held_out_prompts: int = 0
    """Number of held-out rows whose prompts are answered to count answers that go round."""
    looped_before: float | None = None
    """Share of them that went round after the first stage."""
    looped_after: float | None = None
    """Likewise after the second; None if no rows are held out."""
    preference_curve: list[list[float]] = field(default_factory=list)
    """Number and loss of each step."""


def second_stage(
    model: nn.Module,
    rows: Sequence[TokenizedExample],
    held_out: Sequence[TokenizedExample],
    recipe: Recipe,
    settings: Preference,
    out: Path,
    figures: Figures,
) -> Iterator[Step]:
    """Train against answers that go round, yielding after every step.

    Pairs and checkpoint are kept in `out`, so that an interrupted run resumes.

    Args:
        model: with the weights that the first stage left.
        rows: the training rows.
        held_out: rows on whose prompts the share of looping answers is measured.
        recipe: the recipe.
        settings: its second stage.
        out: the folder of the run.
        figures: is filled in.

    Raises:
        WeightsError: the pairs in `out` are of another recipe, or see `run_steps`.
    """
    apart = _with_prompts(held_out)
    figures.held_out_prompts = len(apart)
    path = out / "pairs.json"
    if path.is_file():
        pairs, figures.looped_before = _read_pairs(path, recipe)
    else:
        pairs = looping_pairs(model, rows, settings, recipe.seed)
        figures.looped_before = looped_rate(model, apart, settings) if apart else None
        _write_pairs(path, recipe, pairs, figures.looped_before)
    figures.pairs = len(pairs)
    for step in run_steps(
        model,
        epochs(pairs, settings.training, recipe.seed),
        settings.training,
        recipe,
        out / "preference.pt",
        lambda batch: preference_loss(model, batch, settings),
    ):
        figures.preference_curve.append([step.step, round(step.loss, 4)])
        yield step
    figures.looped_after = looped_rate(model, apart, settings) if apart else None


def _write_pairs(
    path: Path, recipe: Recipe, pairs: Sequence[Pair], looped_before: float | None
) -> None:
    rows = [
        [pair.chosen.prompt, pair.chosen.completion, pair.rejected.completion, pair.reference]
        for pair in pairs
    ]
    text = json.dumps({"recipe": repr(recipe), "looped_before": looped_before, "pairs": rows})
    temporary = path.with_suffix(".tmp")
    with writing(path.parent, temporary):
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def _read_pairs(path: Path, recipe: Recipe) -> tuple[list[Pair], float | None]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged. Remove it, to make the pairs anew.") from error
    if kept["recipe"] != repr(recipe):
        raise WeightsError(f"{path} is of another recipe. Name another --out, or remove it.")
    pairs = [
        Pair(
            TokenizedExample(tuple(prompt), tuple(chosen)),
            TokenizedExample(tuple(prompt), tuple(rejected)),
            reference,
        )
        for prompt, chosen, rejected, reference in kept["pairs"]
    ]
    return pairs, kept["looped_before"]


def looping_pairs(
    model: nn.Module, rows: Sequence[TokenizedExample], settings: Preference, seed: int
) -> list[Pair]:
    """Have the model answer prompts of rows, and pair its answers that go round with the rows'."""
    prompts = _with_prompts(rows)
    chosen = random.Random(f"{seed} pairs").sample(prompts, min(settings.prompts, len(prompts)))
    found = [
        (row, TokenizedExample(row.prompt, answer))
        for row, answer in zip(chosen, greedy_answers(model, chosen, settings), strict=True)
        if looped(answer)
    ]
    return [Pair(*pair, _margin(model, pair)) for pair in found]


def _with_prompts(rows: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    """Return a row for each different prompt whose human answer is long; plain texts have none."""
    long = {row.prompt: row for row in rows if len(row.completion) >= MIN_COMPLETION}
    return [row for row in long.values() if len(row.prompt) > 1]


def looped_rate(model: nn.Module, rows: Sequence[TokenizedExample], settings: Preference) -> float:
    """Return the share of the model's greedy answers to the rows' prompts that go round."""
    answers = list(greedy_answers(model, rows, settings))
    return sum(map(looped, answers)) / len(answers)


@torch.no_grad()
def greedy_answers(
    model: nn.Module, rows: Sequence[TokenizedExample], settings: Preference
) -> Iterator[tuple[int, ...]]:
    """Yield the model's greedy answer to each row's prompt, up to where it ends or goes round."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda n: len(rows[n].prompt))
    answers: dict[int, tuple[int, ...]] = {}
    for start in range(0, len(order), ROWS):
        places = order[start : start + ROWS]
        said = _generated(model, [rows[n] for n in places], settings.max_new_tokens)
        answers.update(zip(places, said, strict=True))
    model.train()
    yield from (answers[n] for n in range(len(rows)))


def _generated(
    model: Any, rows: Sequence[TokenizedExample], max_new_tokens: int
) -> list[tuple[int, ...]]:
    device, length = model.device, max(len(row.prompt) for row in rows)
    eos = rows[0].completion[-1]
    padding = [length - len(row.prompt) for row in rows]
    ids = torch.tensor([[0] * n + list(row.prompt) for n, row in zip(padding, rows, strict=True)])
    mask = torch.tensor([[0] * n + [1] * (length - n) for n in padding])
    narrow = model.dtype == torch.bfloat16
    with torch.autocast(device.type, model.dtype, enabled=narrow):
        out = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=0,
            stopping_criteria=[partial(_gone_round, length)],
        )
    return [_until_its_end(answer, eos) for answer in out[:, length:].tolist()]


def _gone_round(length: int, ids: Tensor, scores: Any) -> Tensor:
    """Return which rows go round after their prompts, which have `length` tokens: (B,) bool."""
    return torch.tensor([looped(row[length:]) for row in ids.tolist()], device=ids.device)


def _until_its_end(answer: list[int], eos: int) -> tuple[int, ...]:
    """Return the tokens before the end of text, or up to where they go round."""
    for count, id in enumerate(answer):
        if id == eos:
            return tuple(answer[:count])
        if looped(answer[: count + 1]):
            return tuple(answer[: count + 1])
    return tuple(answer)


def preference_loss(
    model: nn.Module, batch: Sequence[Pair], settings: Preference
) -> tuple[Tensor, float]:
    """Return the summed loss of pairs, and their number."""
    chosen, rejected = _token_losses(model, batch)
    if settings.loss == "dpo":
        margins = torch.stack(
            [
                bad.sum() - good.sum() - pair.reference
                for pair, good, bad in zip(batch, chosen, rejected, strict=True)
            ]
        )
        loss = -functional.logsigmoid(settings.beta * margins).sum()
    else:
        loss = torch.stack(
            [
                _unlikelihood(bad[-repeated(pair.rejected.completion) :])
                for pair, bad in zip(batch, rejected, strict=True)
            ]
        ).sum()
    ordinary = torch.stack([losses.mean() for losses in chosen]).sum()
    return loss + settings.sft_weight * ordinary, float(len(batch))


def _unlikelihood(losses: Tensor) -> Tensor:
    """Return the mean of -log(1 - p) of tokens whose losses are -log p."""
    return -torch.log(EPSILON - torch.expm1(-losses)).mean()


@torch.no_grad()
def _margin(model: nn.Module, pair: tuple[TokenizedExample, TokenizedExample]) -> float:
    (chosen,), (rejected,) = _token_losses(model, [Pair(*pair, 0.0)])
    return float(rejected.sum() - chosen.sum())


def _token_losses(
    model: nn.Module, batch: Sequence[Pair]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the losses of each pair's chosen and of its rejected tokens, in nats."""
    rows = [*(pair.chosen for pair in batch), *(pair.rejected for pair in batch)]
    losses, _ = batch_losses(model, rows)
    by_row = torch.split(losses, [len(row.completion) for row in rows])
    return by_row[: len(batch)], by_row[len(batch) :]
