"""Converts training rows and run reports to what their tab shows. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import Role, RunReport
from playground.training_data.explain import AnnotatedRow
from playground.ui.answer_view import ROLE_TITLES, named


def training(
    rows: Mapping[Role, AnnotatedRow] | None,
    reports: Mapping[Role, RunReport],
    base: Mapping[str, str],
) -> dict[str, Any]:
    """Return an example row for each variant, and how each adapter was trained."""
    if rows is None:
        return {"rows": [], "made": []}
    return {
        "rows": [
            {
                "role": role,
                "title": f"{ROLE_TITLES[role]}: {row.kind}",
                "explains": row.explains,
                "tokens": [piece.text for piece in row.pieces],
                "first": row.first_label,
            }
            for role, row in rows.items()
        ],
        "made": [{"role": role, "title": ROLE_TITLES[role], **_variant(reports.get(role), base)}
                 for role in rows],
    }  # fmt: skip


def _variant(report: RunReport | None, base: Mapping[str, str]) -> dict[str, Any]:
    if report is None:
        return {"facts": named(base), "curve": [], "steps": 0, "examples": [], "sources": []}
    recipe, training = report.recipe, report.recipe.training
    held_out: dict[str, str] = {}
    if report.held_out_loss_before is not None and report.held_out_loss_after is not None:
        losses = (
            f"{report.held_out_loss_before:.2f} → {report.held_out_loss_after:.2f} nats per label"
        )
        held_out = {f"loss on {report.held_out_rows:,} rows kept apart": losses}
    supervised = f", {report.supervised_tokens:,} labels" if report.supervised_tokens else ""
    return {
        "facts": named(
            {
                "recipe": recipe.name,
                "rows": f"{report.rows:,}{supervised}",
                "adapter": f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}",
                "steps": f"{len(report.curve):,} of {training.batch_rows} rows, {training.epochs} "
                f"epoch{'s' * (training.epochs != 1)}, learning rate {training.learning_rate:g}",
                **_second_stage(report),
                "time": f"{report.seconds / 60:.0f} min",
                **held_out,
            }
        ),
        "curve": _smoothed(report.curve),
        "steps": len(report.curve),
        "examples": [
            {"tokens": [*row.prompt, *row.completion], "first": len(row.prompt)}
            for row in report.examples
        ],
        "sources": list(dict.fromkeys(f"{s.attribution}, {s.licence}" for s in recipe.sources)),
    }


def _second_stage(report: RunReport) -> dict[str, str]:
    """Return the facts of the second stage; none if there was none."""
    settings = report.recipe.unlikelihood
    if settings is None:
        return {}
    facts = {
        "second stage": "unlikelihood of what it repeated in "
        f"{report.looping_answers:,} of its own answers: {report.unlikelihood_steps:,} steps of "
        f"{settings.batch_rows}, learning rate {settings.learning_rate:g}"
    }
    if report.looped_before is not None and report.looped_after is not None:
        shares = f"{report.looped_before:.0%} → {report.looped_after:.0%}"
        facts[
            f"answers to {report.held_out_prompts:,} prompts kept apart that repeat themselves"
        ] = shares
    return facts


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return at most 100 means of consecutive steps, since single batches are noisy."""
    steps = max(1, -(-len(losses) // 100))
    parts = [losses[n : n + steps] for n in range(0, len(losses), steps)]
    return [round(sum(part) / len(part), 4) for part in parts]
