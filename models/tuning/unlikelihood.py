"""The second stage of training: unlikelihood of what the model repeats in its own answers.

The model answers training prompts greedily. Where an answer goes round in circles, the tokens that
say a phrase again are made unlikely (Welleck et al. 1908.04319), while a share of the ordinary loss
on the human answer to the same prompt keeps the model's language human.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import WeightsError
from models.text.loops import looped, repeated
from models.tuning.answers import greedy_answers
from models.tuning.progress import Answered, Step
from models.tuning.recipe import Recipe, Unlikelihood
from models.tuning.saving import OTHER_RUN, run_identity, writing
from models.tuning.trainer import TokenizedExample, batch_losses, epochs, run_steps

MIN_COMPLETION = 8
"""Least tokens of a human answer to a prompt that is tried: short ones hardly repeat themselves."""
EPSILON = 1e-5
"""Added to 1 - p, so that the loss of a token is at most -log(EPSILON), 11.5 nats."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt."""

    human: TokenizedExample
    looping: TokenizedExample
    """The model's own, up to where it repeated itself for the third time."""

    def __len__(self) -> int:
        """Return the number of tokens of both rows, padded to the same length."""
        return 2 * max(len(self.human), len(self.looping))


@dataclass(slots=True)
class SecondStageFigures:
    """Counts and loss curve of the second stage, filled in as it runs."""

    looping_answers: int = 0
    """Number of the model's own answers to training prompts that looped."""
    held_out_prompts: int = 0
    """Number of held-out rows whose prompts are answered, to count the answers that loop."""
    looped_before: float | None = None
    """Share of them that loop after the first stage; None if no rows are held out."""
    looped_after: float | None = None
    """Likewise after the second."""
    unlikelihood_curve: list[list[float]] = field(default_factory=list)
    """Number and loss of each step."""


def second_stage(
    model: nn.Module,
    rows: Sequence[TokenizedExample],
    held_out: Sequence[TokenizedExample],
    recipe: Recipe,
    settings: Unlikelihood,
    out: Path,
    figures: SecondStageFigures,
) -> Iterator[Step | Answered]:
    """Train against answers that repeat themselves, yielding progress.

    The pairs, when all prompts are answered, and the checkpoint are kept in `out`: an interrupted
    run resumes from them.

    Args:
        model: with the weights that the first stage left.
        rows: the training rows.
        held_out: rows on whose prompts the share of looping answers is measured.
        recipe: the recipe.
        settings: its second stage.
        out: the folder of the run.
        figures: is filled in.

    Raises:
        WeightsError: the pairs in `out` are damaged or of another run, or see `run_steps`.
    """
    held_out = _with_prompts(held_out)
    figures.held_out_prompts = len(held_out)
    path = out / "pairs.json"
    identity = run_identity(recipe, rows, held_out, settings.prompts, settings.max_new_tokens)
    if path.is_file():
        pairs, figures.looped_before = _read_pairs(path, identity)
    else:
        figures.looped_before = looped_rate(model, held_out, settings)
        pairs = yield from make_pairs(model, rows, settings, recipe.seed)
        _write_pairs(path, identity, pairs, figures.looped_before)
    figures.looping_answers = len(pairs)

    steps = epochs(pairs, settings, recipe.seed)
    epoch_steps = -(-len(pairs) // settings.batch_rows)
    rates: dict[int, float | None] = {}

    def is_cured(step: int) -> bool:
        if step == 0 or step % epoch_steps or not held_out:
            return False
        rates[step] = rate = looped_rate(model, held_out, settings)
        return rate is not None and rate <= settings.stop_at

    for step in run_steps(
        model,
        steps,
        settings,
        run_identity(recipe, rows, held_out, settings),
        out / "second_stage.pt",
        lambda batch: unlikelihood_loss(model, batch, settings.likelihood_weight),
        is_cured,
    ):
        figures.unlikelihood_curve.append([step.done, round(step.loss, 4)])
        yield step
    taken = len(figures.unlikelihood_curve)
    figures.looped_after = (
        rates[taken] if taken in rates else looped_rate(model, held_out, settings)
    )


def make_pairs(
    model: nn.Module, rows: Sequence[TokenizedExample], settings: Unlikelihood, seed: int
) -> Generator[Answered, None, list[Pair]]:
    """Have the model answer prompts of rows, yielding progress; return the pairs that loop."""
    prompts = _with_prompts(rows)
    draw = random.Random(f"{seed} pairs")
    tried = draw.sample(prompts, min(settings.prompts, len(prompts)))
    answers: dict[int, tuple[int, ...]] = {}
    began = time.monotonic()
    for batch in _answers(model, tried, settings):
        answers |= batch
        yield Answered(len(answers), len(tried), time.monotonic() - began)
        began = time.monotonic()
    return [
        Pair(row, TokenizedExample(row.prompt, answers[n]))
        for n, row in enumerate(tried)
        if looped(answers[n])
    ]


def _write_pairs(
    path: Path, identity: str, pairs: Sequence[Pair], looped_before: float | None
) -> None:
    rows = [[pair.human.prompt, pair.human.completion, pair.looping.completion] for pair in pairs]
    text = json.dumps({"identity": identity, "looped_before": looped_before, "pairs": rows})
    temporary = path.with_suffix(".tmp")
    with writing(path.parent, temporary):
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def _read_pairs(path: Path, identity: str) -> tuple[list[Pair], float | None]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["identity"] != identity:
            raise WeightsError(f"{path} {OTHER_RUN}")
        pairs = [
            Pair(
                TokenizedExample(tuple(prompt), tuple(human)),
                TokenizedExample(tuple(prompt), tuple(looping)),
            )
            for prompt, human, looping in stored["pairs"]
        ]
        return pairs, stored["looped_before"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is damaged. Remove it, to make the pairs anew.") from error


def _with_prompts(rows: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    """Return the last row of each prompt whose human answer is long enough to loop.

    Plain texts have no prompt, but for the token that begins a text.
    """
    long = {row.prompt: row for row in rows if len(row.completion) >= MIN_COMPLETION}
    return [row for row in long.values() if len(row.prompt) > 1]


def looped_rate(
    model: nn.Module, rows: Sequence[TokenizedExample], settings: Unlikelihood
) -> float | None:
    """Return the share of the model's answers to the rows' prompts that loop; None of no rows."""
    if not rows:
        return None
    batches = _answers(model, rows, settings)
    return sum(looped(answer) for batch in batches for answer in batch.values()) / len(rows)


def _answers(
    model: nn.Module, rows: Sequence[TokenizedExample], settings: Unlikelihood
) -> Iterator[dict[int, tuple[int, ...]]]:
    eos = rows[0].completion[-1] if rows else 0
    return greedy_answers(model, [row.prompt for row in rows], eos, settings.max_new_tokens)


def unlikelihood_loss(
    model: nn.Module, batch: Sequence[Pair], likelihood_weight: float
) -> tuple[Tensor, float]:
    """Return the summed loss of pairs, and their number.

    Of each pair: the mean of -log(1 - p) of the tokens that say a phrase again, p being their
    probability, and the mean of the human answer's ordinary losses with its weight.
    """
    losses, _ = batch_losses(model, [row for pair in batch for row in (pair.human, pair.looping)])
    sizes = [len(row.completion) for pair in batch for row in (pair.human, pair.looping)]
    by_row = torch.split(losses, sizes)
    parts = []
    for pair, human, looping in zip(batch, by_row[::2], by_row[1::2], strict=True):
        again = looping[-repeated(pair.looping.completion) :]
        unlikelihood = -torch.log(EPSILON - torch.expm1(-again)).mean()
        parts.append(unlikelihood + likelihood_weight * human.mean())
    return torch.stack(parts).sum(), float(len(batch))
