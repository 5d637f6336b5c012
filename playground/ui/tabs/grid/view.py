"""Converts nine answers to what the Grid tab shows. Imports no Gradio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from models import Form, Prompt
from playground.comparison.badges import MEANS, Badge, badge
from playground.comparison.compare import Answer
from playground.comparison.grid import Grid
from playground.ui.answer_view import ROLE_TITLES, STOPPED, named, prompt_fields

FORM_LESSONS: dict[Form, str] = {
    "instruction": "told in words what to do",
    "zero-shot": "shown the layout alone",
    "few-shot": "shown solved items first",
}
BADGES: dict[Badge, str] = {
    "answered": "answered",
    "continued": "continued the prompt",
    "echoed": "echoed",
    "looped": "looped",
    "off-label": "off-label",
    "limit": "hit the limit",
    "filtered": "filtered",
    "tool": "called a tool",
    "refused": "refused",
    "unknown": "ended, unknown why",
    "stopped": "stopped",
}


def grid(cells: Grid | None, prompts: Mapping[Form, Prompt] | None = None) -> dict[str, Any]:
    """Return the value of the grid, finished or not; an empty one if there are no cells."""
    if cells is None or prompts is None:
        return {"rows": [], "roles": [], "legend": []}
    rows: list[dict[str, Any]] = [
        {
            "form": form,
            "lesson": FORM_LESSONS[form],
            "fields": prompt_fields(prompts[form]),
            "cells": [_cell(answer, prompts[form]) for answer in answers.values()],
        }
        for form, answers in cells.items()
    ]
    present = {cell["badge"] for row in rows for cell in row["cells"]}
    first = next(iter(cells.values()))
    return {
        "rows": rows,
        "roles": [{"role": role, "title": ROLE_TITLES[role]} for role in first],
        "legend": named({text: MEANS[name] for name, text in BADGES.items() if text in present}),
    }


def _cell(answer: Answer, prompt: Prompt) -> dict[str, Any]:
    kind = badge(answer, prompt)
    stopped = f"{STOPPED[answer.stopped]} ({answer.stopped})" if answer.stopped else "writing"
    meta = answer.figures if answer.place else f"{answer.new_tokens} tok · {stopped}"
    return {
        "role": answer.role,
        "title": ROLE_TITLES[answer.role],
        "text": answer.text,
        "badge": BADGES[kind] if kind else "",
        "kind": kind or "",
        "meta": meta,
        "error": answer.error or "",
        "reasoning": answer.reasoning,
        "notes": " ".join(answer.notes),
    }


def status(cells: Grid) -> str:
    """Return the status line of an unfinished grid."""
    places = [answer.place for answers in cells.values() for answer in answers.values()]
    return f"Waiting: place {max(places)} in the line" if any(places) else "Answering"


def finished(cells: Grid, prompts: Mapping[Form, Prompt]) -> str:
    """Return one sentence on how the cells ended, for the status line and for screen readers."""
    kinds = [
        badge(answer, prompts[form])
        for form, answers in cells.items()
        for answer in answers.values()
    ]
    counts = Counter(kind for kind in kinds if kind)
    summary = ", ".join(f"{n} {BADGES[name]}" for name, n in counts.most_common())
    return f"{len(kinds)} answers: {summary}."
