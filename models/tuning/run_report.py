"""Reports of training runs, read from the recipe and figures beside an adapter. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.tuning.recipe import Recipe, read_recipe
from models.types import Role, Trio, Weights

EXAMPLES = 3
"""Number of training rows that the figures show as tokens."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training row as tokens; the loss is on the completion alone."""

    prompt: tuple[str, ...]
    """Texts of the tokens."""
    completion: tuple[str, ...]
    """Texts of the tokens, the end-of-text token included."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """How an adapter was trained."""

    recipe: Recipe
    rows: int
    supervised_tokens: int | None
    seconds: int
    held_out_rows: int
    held_out_loss_before: float | None
    """In nats per supervised token; None if no rows were held out."""
    held_out_loss_after: float | None
    curve: tuple[float, ...]
    """Loss of each step, in nats per supervised token."""
    examples: tuple[TrainingRow, ...]
    looping_answers: int = 0
    """Own answers that a second stage learnt from (`unlikelihood.py`); 0 if there was none."""
    unlikelihood_steps: int = 0
    held_out_prompts: int = 0
    """Number of held-out prompts of whose answers the share that loops was measured."""
    looped_before: float | None = None
    """The share before the second stage."""
    looped_after: float | None = None


def run_reports(trio: Trio) -> dict[Role, RunReport]:
    """Return the reports of a trio's adapters that have recipe and figures beside them.

    Raises:
        TrioError: a recipe is invalid.
    """
    reports = {}
    for variant in trio.variants:
        adapter = variant.source.adapter if isinstance(variant.source, Weights) else None
        folder = Path(adapter.source) if adapter else None
        if folder and (folder / "recipe.toml").is_file() and (folder / "figures.json").is_file():
            figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
            reports[variant.role] = _report(read_recipe(folder / "recipe.toml"), figures)
    return reports


def _report(recipe: Recipe, figures: dict[str, Any]) -> RunReport:
    return RunReport(
        recipe=recipe,
        rows=figures["rows"],
        supervised_tokens=figures.get("supervised_tokens"),
        seconds=figures["seconds"],
        held_out_rows=figures["held_out_rows"],
        held_out_loss_before=figures["held_out_loss_before"],
        held_out_loss_after=figures["held_out_loss_after"],
        curve=tuple(loss for _, loss in figures["curve"]),
        examples=tuple(
            TrainingRow(tuple(prompt), tuple(completion))
            for prompt, completion in figures.get("examples", [])
        ),
        looping_answers=figures.get("looping_answers", 0),
        unlikelihood_steps=len(figures.get("unlikelihood_curve", [])),
        held_out_prompts=figures.get("held_out_prompts", 0),
        looped_before=figures.get("looped_before"),
        looped_after=figures.get("looped_after"),
    )
