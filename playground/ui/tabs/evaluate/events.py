"""The Evaluate tab's fields and event handlers. Refers to parts by name; imports no Gradio."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from models import FORMS, ROLES, Backend, ModelError, PromptError, read_text
from playground.evaluation.config import Plan, named
from playground.evaluation.custom_dataset import read_custom_dataset
from playground.evaluation.run import Evaluation, evaluate, evaluation_record, head_of
from playground.evaluation.task import Task, shipped_tasks
from playground.ui.fields import whole_number
from playground.ui.tabs.evaluate.view import evaluation
from playground.ui.work import Painted, Run, Work, busy, done, paint, while_wanted

PAINT_S = 0.5
"""Seconds between two updates of the table, which is large."""
EVALUATION_S = 1800.0
"""Seconds after which an evaluation ends; its results can be gone on from."""
LEAST, MOST, MOST_OWN = 4, 40, 200
"""Least and greatest number of items of each task, and the greatest of a user's own data set."""
CLI = "Go on with it by `python -m playground evaluate --out`."


@dataclass(frozen=True, slots=True)
class EvaluateFields:
    """The values of the tab's fields when Evaluate is pressed."""

    tasks: Sequence[str]
    forms: Sequence[str]
    limit: float
    file: str | None
    """Path of a user's own data set, which replaces the tasks."""
    input_column: str | None
    label_column: str | None
    instruction: str
    earlier: str | None
    """Path of the results of an evaluation to resume."""

    def plan(self) -> tuple[Plan, list[str]]:
        """Return the plan, and notes on the data set for the user.

        Raises:
            PromptError: no task or form is chosen, or the data set cannot be used.
        """
        forms = named({form: form for form in FORMS}, self.forms, "form")
        limit, most = whole_number("Items of each task", self.limit), self._most()
        if not LEAST <= limit <= most:
            raise PromptError(f"Items of each task are {LEAST} to {most} here; {limit} is sent.")
        tasks, notes = self._tasks()
        return Plan(tasks, forms, ROLES, limit=limit), notes

    def _most(self) -> int:
        return MOST_OWN if self.file else MOST

    def _tasks(self) -> tuple[tuple[Task, ...], list[str]]:
        if not self.file:
            return named(shipped_tasks(), self.tasks, "task"), []
        wordings = [self.instruction] if self.instruction.strip() else []
        columns = self.input_column or "", self.label_column or ""
        task, notes = read_custom_dataset(Path(self.file), *columns, instructions=wordings)
        return (task,), notes


def run_evaluation(fields: EvaluateFields) -> Work:
    """Return the work that runs the evaluation and paints the table as cells finish.

    Raises:
        PromptError: no task or form is chosen, or the data set cannot be used.
    """
    plan, notes = fields.plan()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        yield busy("Reading the first prompts")  # takes seconds
        failure: ModelError | None = None
        began, cells = time.monotonic(), -1
        run.until_s = began + EVALUATION_S

        def states(out: Path) -> Generator[Evaluation]:
            nonlocal failure
            try:
                yield from while_wanted(evaluate(trio, plan, out), run)
            except ModelError as error:  # raised again once the finished cells are shown
                failure = error

        def growing(state: Evaluation) -> Painted:
            nonlocal cells
            painted = busy(_progress(state, time.monotonic() - began))
            if len(state.replies) != cells:
                cells = len(state.replies)
                painted["results"] = evaluation(state)
            return painted

        with TemporaryDirectory() as folder:
            out = Path(folder, Path(fields.earlier or "results.json").name)
            if fields.earlier:
                try:
                    copyfile(fields.earlier, out)
                except OSError as error:
                    raise PromptError(
                        f"{out.name} is gone: {error.strerror}. Choose it again."
                    ) from error
            state = yield from paint(states(out), growing, every_s=PAINT_S)
        if state is not None:
            yield busy("Comparing the variants in pairs")
            record = evaluation_record(head_of(trio, plan), state)
            yield {
                "results": {
                    **evaluation(state, record["differences"]),
                    "record": json.dumps(record, ensure_ascii=False),
                },
                **done(" ".join([_ended(state, run, began), *notes, *state.notes])),
            }
        if failure:
            raise failure

    return work


def fields_of_saved(path: str) -> dict[str, Any]:
    """Return the values of the tab's fields with which saved results can be resumed.

    Raises:
        PromptError: the file holds no results, or their settings are not available on the page.
    """
    name = Path(path).name
    try:
        saved = json.loads(read_text(Path(path)))
        tasks, forms, limit = dict(saved["tasks"]), saved["forms"], saved["limit"]
        settings = {key: saved[key] for key in ("variants", "wordings", "shots", "max_new_tokens")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PromptError(f"{name}: is no result of an evaluation. Take another file.") from error
    shipped = {task.name: task.digest for task in shipped_tasks().values()}
    ours = tasks.items() <= shipped.items()
    most = MOST if ours else MOST_OWN
    usual = Plan(tuple(shipped_tasks().values())).record()
    for key, value in settings.items():
        if value != usual[key]:
            raise PromptError(f"{name}: {key} is {value!r}; the page asks {usual[key]!r}. {CLI}")
    if type(limit) is not int or not LEAST <= limit <= most:
        raise PromptError(
            f"{name}: limit is {limit!r}; the page asks {LEAST} to {most} items of each task. {CLI}"
        )
    if not isinstance(forms, list) or [form for form in FORMS if form in forms] != forms:
        raise PromptError(f"{name}: forms is {forms!r}; of {', '.join(FORMS)}, in this order.")
    return {
        "forms": forms,
        "limit": limit,
        **({"tasks": list(tasks), "file": None} if ours else {}),
    }


def _progress(state: Evaluation, seconds: float) -> str:
    left = seconds / max(1, state.done - state.resumed) * (state.total - state.done)
    return f"{state.done} of {state.total} prompts, about {left:.0f} s left"


def _ended(state: Evaluation, run: Run, began: float) -> str:
    resumed = f" Earlier results held {state.resumed} of them." if state.resumed else ""
    if state.done < state.total:
        answered = f"{state.done} of {state.total}"
        return f"{run.stop_reason()} after {answered} prompts; finished cells are shown.{resumed}"
    seconds = time.monotonic() - began
    return f"{state.total} prompts, three answers each, in {seconds:.0f} s.{resumed}"
