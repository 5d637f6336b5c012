"""Converts an evaluation, finished or not, to what the Evaluate tab shows. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models import Form, Role
from playground.evaluation.config import Plan
from playground.evaluation.results import Scoring
from playground.evaluation.run import Evaluation
from playground.evaluation.task import Task
from playground.ui.answer_view import ROLE_TITLES, prompt_fields

SCORINGS: dict[Scoring, tuple[str, str]] = {
    "generation": (
        "Says it",
        "Share of items where the answer, as it was written, names the right label first, or is "
        "the right text.",
    ),
    "likelihood": (
        "Finds it likeliest",
        "Share of items where the right label has the highest log-probability of all labels, "
        "summed over its tokens, whatever is written: fair to a base, which was never taught to "
        "answer, but not to long labels.",
    ),
    "calibrated": (
        "Likeliest, calibrated",
        "The same, less what each label has after an empty item: a label that is likely "
        "everywhere wins nothing by it.",
    ),
    "valid": (
        "Valid answers",
        "Share of answers that are one of the labels and nothing else, and ended by themselves or "
        "where the layout begins again, right or wrong.",
    ),
    "ended": ("Ended by itself", "Share of answers that end with the end-of-text token."),
    "task-format": (
        "Task format",
        "Share of answers in the one format that the task-tuned variant was tuned to, whatever "
        "was asked.",
    ),
    "rouge-l": ("ROUGE-L", "How much of the right text's word order an answer has, from 0 to 100."),
}
"""Title and explanation of each scoring."""


def evaluation(
    state: Evaluation | None, differences: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the table of an evaluation.

    Args:
        state: the current state; None gives an empty table.
        differences: the paired differences of the finished record.
    """
    if state is None:
        return {"rows": [], "roles": [], "scorings": [], "pairs": [], "only": [], "record": ""}
    tasks = {task.name: task for task in state.plan.tasks}
    lines: dict[tuple[str, Form], dict[str, Any]] = {}
    for result in state.results():
        task = tasks[result.task]
        line = lines.setdefault(
            (result.task, result.form),
            {"task": result.task, "title": task.title, "held_out": task.held_out,
             "form": result.form,
             "n": result.n, "scores": {}},
        )  # fmt: skip
        cell = {"value": result.value, "low": result.low, "high": result.high}
        line["scores"].setdefault(result.scoring, {})[result.variant] = cell
    there = {scoring for line in lines.values() for scoring in line["scores"]}
    return {
        "rows": list(lines.values()),
        "roles": [{"role": role, "title": ROLE_TITLES[role]} for role in state.plan.variants],
        "scorings": [
            {"name": name, "title": title, "explains": explains}
            for name, (title, explains) in SCORINGS.items()
            if name in there
        ],
        "pairs": [
            {**difference, "title": tasks[difference["task"]].title,
             "ours_title": ROLE_TITLES[difference["ours"]],
             "theirs_title": ROLE_TITLES[difference["theirs"]]}
            for difference in differences
        ],
        "only": [_only(state.plan, *place) for place in state.only_right()],
        "record": "",
    }  # fmt: skip


def _only(
    plan: Plan, task: Task, form: Form, item: int, wording: int, role: Role
) -> dict[str, Any]:
    """Return an item that one variant alone answered correctly, with its prompt for Compare."""
    sample = task.items[item]
    prompt = task.prompt(form, sample.input, wording, plan.shots)
    return {
        "role": role,
        "title": ROLE_TITLES[role],
        "task": task.title,
        "form": form,
        "input": sample.input,
        "gold": sample.gold,
        "fields": prompt_fields(prompt),
    }
