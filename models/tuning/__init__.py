"""Training of adapters by recipes. Importing this package does not import torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from models.errors import WeightsError
from models.tuning.progress import Answered, Step
from models.tuning.recipe import Recipe, find_recipe, read_recipe
from models.tuning.run_report import RunReport, TrainingRow, run_reports

__all__ = [
    "RunReport",
    "TrainingRow",
    "find_recipe",
    "read_recipe",
    "run_reports",
    "tune",
]


def tune(recipe_name: str, data: Path, out: Path) -> Iterator[Step | Answered]:
    """Train the adapter of a recipe, and write adapter, recipe and figures to `out`.

    After an interruption, another call resumes from the last checkpoint in `out`.

    Raises:
        ModelError: the recipe is invalid, data or base are missing, `out` cannot be written, or
            the loss is no longer a number.
    """
    path = find_recipe(recipe_name)
    return _run(path, read_recipe(path), data, out)


def _run(path: Path, recipe: Recipe, data: Path, out: Path) -> Iterator[Step | Answered]:
    from models.tuning import saving, trainer, unlikelihood
    from models.tuning.setup import adapter_on_rounded_base, tokenized_dataset

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise WeightsError(f"{out}: cannot be written: {error}. Name another folder.") from error
    dataset = tokenized_dataset(recipe, data)
    held_out = dataset.held_out
    model = adapter_on_rounded_base(recipe)
    batch_rows = recipe.training.batch_rows
    before = trainer.mean_loss(model, held_out, batch_rows) if held_out else None
    curve, seconds = [], 0.0
    for step in trainer.train(model, dataset.training, recipe, out):
        curve.append([step.done, round(step.loss, 4)])
        seconds += step.seconds
        yield step
    second = unlikelihood.SecondStageFigures()
    if recipe.unlikelihood:
        for progress in unlikelihood.second_stage(
            model, dataset.training, held_out, recipe, recipe.unlikelihood, out, second
        ):
            seconds += progress.seconds
            yield progress
    figures = {
        "rows": len(dataset.training),
        "rows_filtered": dataset.filtered,
        "rows_too_long": dataset.too_long,
        "rows_overlapping": dataset.overlapping,
        "supervised_tokens": sum(len(row.completion) for row in dataset.training),
        "held_out_rows": len(held_out),
        "held_out_loss_before": before,
        "held_out_loss_after": (
            trainer.mean_loss(model, held_out, batch_rows) if held_out else None
        ),
        **asdict(second),
        "seconds": round(seconds),
        "examples": dataset.examples,
        "curve": curve,
    }
    saving.save(model, path, recipe, figures, out)
