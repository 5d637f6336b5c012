"""Nine answers → what the Grid tab shows. Imports no Gradio."""

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
    "stopped": "stopped",
}


def grid(cells: Grid | None, prompts: Mapping[Form, Prompt] | None = None) -> dict[str, Any]:
    """Return the grid as far as it has come; nothing for none."""
    if cells is None or prompts is None:
        return {"rows": [], "roles": [], "legend": []}
    rows: list[dict[str, Any]] = [
        {
            "form": form,
            "lesson": FORM_LESSONS[form],
            "fields": prompt_fields(prompts[form]),
            "cells": [_cell(one, prompts[form]) for one in answers.values()],
        }
        for form, answers in cells.items()
    ]
    there = {cell["badge"] for row in rows for cell in row["cells"]}
    first = next(iter(cells.values()))
    return {
        "rows": rows,
        "roles": [{"role": role, "title": ROLE_TITLES[role]} for role in first],
        "legend": named({text: MEANS[name] for name, text in BADGES.items() if text in there}),
    }


def _cell(one: Answer, prompt: Prompt) -> dict[str, Any]:
    named = badge(one, prompt)
    stopped = f"{STOPPED[one.stopped]} ({one.stopped})" if one.stopped else "writing"
    return {
        "role": one.role,
        "title": ROLE_TITLES[one.role],
        "text": one.text,
        "badge": BADGES[named] if named else "",
        "kind": named or "",
        "meta": f"{one.new_tokens} tok · {stopped}",
        "error": one.error or "",
    }


def finished(cells: Grid, prompts: Mapping[Form, Prompt]) -> str:
    """Return one sentence on how the cells ended, for the status line and for screen readers."""
    named = [
        badge(one, prompts[form]) for form, answers in cells.items() for one in answers.values()
    ]
    counts = Counter(one for one in named if one)
    told = ", ".join(f"{n} {BADGES[name]}" for name, n in counts.most_common())
    return f"{len(named)} answers: {told}."
