"""How the variants were trained → what its tab shows. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import Role, RunReport
from playground.training_data.explain import AnnotatedRow
from playground.ui.answer_view import ROLE_TITLES, named


def training(
    rows: Mapping[Role, AnnotatedRow] | None,
    made: Mapping[Role, RunReport],
    base: Mapping[str, str],
) -> dict[str, Any]:
    """Return how the variants were trained: a row of each kind, and what made the adapters."""
    if rows is None:
        return {"rows": [], "made": []}
    return {
        "rows": [
            {
                "role": role,
                "title": f"{ROLE_TITLES[role]}: {one.kind}",
                "explains": one.explains,
                "tokens": [piece.text for piece in one.pieces],
                "first": one.first_label,
            }
            for role, one in rows.items()
        ],
        "made": [{"role": role, "title": ROLE_TITLES[role], **_made(made.get(role), base)}
                 for role in rows],
    }  # fmt: skip


def _made(one: RunReport | None, base: Mapping[str, str]) -> dict[str, Any]:
    if one is None:
        return {"facts": named(base), "curve": [], "steps": 0, "examples": [], "sources": []}
    recipe, training = one.recipe, one.recipe.training
    held: dict[str, str] = {}
    if one.held_out_loss_before is not None and one.held_out_loss_after is not None:
        losses = f"{one.held_out_loss_before:.2f} → {one.held_out_loss_after:.2f} nats per label"
        held = {f"loss on {one.held_out_rows:,} rows kept apart": losses}
    supervised = f", {one.supervised_tokens:,} labels" if one.supervised_tokens else ""
    return {
        "facts": named(
            {
                "recipe": recipe.name,
                "rows": f"{one.rows:,}{supervised}",
                "adapter": f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}",
                "steps": f"{len(one.curve):,} of {training.batch_rows} rows, {training.epochs} "
                f"epoch{'s' * (training.epochs != 1)}, learning rate {training.learning_rate:g}",
                "time": f"{one.seconds / 60:.0f} min",
                **held,
            }
        ),
        "curve": _smoothed(one.curve),
        "steps": len(one.curve),
        "examples": [
            {"tokens": [*row.prompt, *row.completion], "first": len(row.prompt)}
            for row in one.examples
        ],
        "sources": list(dict.fromkeys(f"{s.attribution}, {s.licence}" for s in recipe.sources)),
    }


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return up to 100 means of neighbouring steps: single batches are noisy."""
    each = max(1, -(-len(losses) // 100))
    parts = [losses[n : n + each] for n in range(0, len(losses), each)]
    return [round(sum(part) / len(part), 4) for part in parts]
