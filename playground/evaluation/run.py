"""Tasks × prompt forms × variants → what each said, saved as it goes, and a table of it.

The variants answer together, several items at once, through the same engine that answers people.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models import Backend, Form, Prompt, PromptError, Role
from playground.comparison.batch import ask_all
from playground.evaluation.atomic_write import write_whole
from playground.evaluation.config import Plan
from playground.evaluation.results import (
    PairedDifference,
    Reply,
    Result,
    only_right,
    paired_differences,
    table,
)
from playground.evaluation.resume import read
from playground.evaluation.task import Task, shipped_tasks

BLANK = "N/A"
"""The item that is none, for calibration (Zhao et al. 2102.09690)."""


@dataclass(slots=True)
class Evaluation:
    """How far it has come, and what was said."""

    plan: Plan
    total: int
    """Prompts to ask."""
    done: int = 0
    held: int = 0
    """Of those that are done, how many an earlier evaluation had asked."""
    replies: list[Reply] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether everything is asked, and every cell finished."""
        return len(self.replies) == self.total * len(self.plan.variants)

    @property
    def formats(self) -> list[str]:
        """What task-tuned variants answer their own tasks with."""
        tasks = [*shipped_tasks().values(), *self.plan.tasks]
        return sorted({task.answer_format for task in tasks if task.answer_format})

    def results(self) -> list[Result]:
        """Return the table of the cells that are finished."""
        found: list[Result] = []
        formats = self.formats
        for task in self.plan.tasks:
            replies = [one for one in self.replies if one.task == task.name]
            found += table(task, replies, formats)
        return found

    def only_right(self) -> list[tuple[Task, Form, int, int, Role]]:
        """Return the items, and their wordings, that exactly one variant answered rightly."""
        formats = self.formats
        return [
            (task, form, item, wording, role)
            for task in self.plan.tasks
            for form in self.plan.forms
            for (item, wording), role in only_right(
                task,
                [one for one in self.replies if (one.task, one.form) == (task.name, form)],
                formats,
            ).items()
        ]

    def differences(self) -> list[PairedDifference]:
        """Compare the variants in pairs."""
        return paired_differences(self.plan.tasks, self.replies, self.formats)


def evaluate(trio: Backend, plan: Plan, out: Path | None = None) -> Generator[Evaluation]:
    """Ask everything that is planned, and yield after every prompt; closing it ends the asking.

    With a file, each finished task and form is saved in it, and what it holds is not asked again.

    Raises:
        PromptError: a task cannot be sent, or the file is another plan's; nothing is lost.
        ModelError: an answer failed.
    """
    head = head_of(trio, plan)
    cells = [(task, form) for task in plan.tasks for form in plan.forms]
    state = Evaluation(plan, sum(len(plan.asks(*cell)) for cell in cells))
    held = read(out, head, plan) if out else {}
    for task, form in cells:
        asks = plan.asks(task, form)
        if (task.name, form) in held:
            state.replies += held[task.name, form]
            state.done += len(asks)
            state.held += len(asks)
            yield state
            continue
        said: list[Reply] = []
        with closing(_replies(trio, plan, task, form, asks)) as replies:
            for some in replies:
                said += some
                state.done += 1
                yield state
        state.replies += said
        if out:
            _write(out, head, state)
        yield state


def head_of(trio: Backend, plan: Plan) -> dict[str, Any]:
    """Return all that decides the replies, as JSON-ready values."""
    return {
        "trio": trio.trio.name,
        "weights": {role: one.fingerprint for role, one in trio.model_info().items()},
        **plan.record(),
    }


def evaluation_record(head: dict[str, Any], state: Evaluation) -> dict[str, Any]:
    """Return an evaluation as one plain object: what was asked, the table, and every reply.

    The variants are compared in pairs when all is asked: ten thousand draws a cell take a while.
    """
    return {
        **head,
        "rows": [asdict(one) for one in state.results()],
        "differences": [asdict(one) for one in state.differences()] if state.whole else [],
        "replies": [reply.record() for reply in state.replies],
    }


def _replies(
    trio: Backend, plan: Plan, task: Task, form: Form, asks: Sequence[tuple[int, int]]
) -> Generator[list[Reply]]:
    """Yield what the variants say to each prompt, in order."""

    def prompt(input: str, wording: int) -> Prompt:
        return task.prompt(form, input, wording, plan.shots)

    wordings = sorted({wording for _, wording in asks}) if task.labels else []
    empty = ask_all(trio, [prompt(BLANK, one) for one in wordings], 1, task.labels, plan.variants)
    blanks = dict(zip(wordings, empty, strict=True))
    prompts = []
    for item, wording in asks:
        with _naming(task, item):
            prompts.append(prompt(task.items[item].input, wording))
    with closing(
        ask_all(trio, prompts, plan.max_new_tokens, task.labels, plan.variants)
    ) as answers:
        for item, wording in asks:
            with _naming(task, item):
                said = next(answers)
            yield [
                Reply(
                    task=task.name,
                    form=form,
                    variant=role,
                    item=item,
                    wording=wording,
                    text=one.text,
                    stopped=one.stopped or "error",
                    label_logprobs=one.label_logprobs,
                    blank_logprobs=blanks[wording][role].label_logprobs if blanks else (),
                )
                for role, one in said.items()
            ]


@contextmanager
def _naming(task: Task, item: int) -> Iterator[None]:
    """Say which item it is that cannot be sent."""
    try:
        yield
    except PromptError as error:
        raise PromptError(f"{task.name}, item {item + 1}: {error}") from error


def _write(path: Path, head: dict[str, Any], state: Evaluation) -> None:
    """Save all at once."""
    write_whole(
        path, json.dumps(evaluation_record(head, state), ensure_ascii=False, indent=1) + "\n"
    )
