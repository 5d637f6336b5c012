"""Runs an evaluation: sends every task in every prompt form, saves and scores the replies.

The variants answer together, several items at once, with the engine that also serves the page.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from models import Backend, Form, PromptError, Role
from playground.comparison.batch import ask_all
from playground.evaluation.atomic_write import check_out, write_whole
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
"""Input of the content-free prompt that calibrates label scores (Zhao et al. 2102.09690)."""


@dataclass(slots=True)
class Evaluation:
    """The state of an evaluation: its progress, and its replies so far."""

    plan: Plan
    total: int
    """Number of prompts."""
    done: int = 0
    """Number of prompts that are answered."""
    resumed: int = 0
    """Number of these whose replies were read from the file of an earlier run."""
    replies: list[Reply] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    """What is to be known of how servers were asked or answered in this run, each once."""

    @property
    def whole(self) -> bool:
        """Whether every prompt has been answered by every variant."""
        return len(self.replies) == self.total * len(self.plan.variants)

    @property
    def formats(self) -> list[str]:
        """Regular expressions of the formats in which task-tuned variants answer."""
        tasks = [*shipped_tasks().values(), *self.plan.tasks]
        return sorted({task.answer_format for task in tasks if task.answer_format})

    def results(self) -> list[Result]:
        """Return the result rows of the finished cells."""
        rows: list[Result] = []
        formats = self.formats
        for task in self.plan.tasks:
            replies = [reply for reply in self.replies if reply.task == task.name]
            rows += table(task, replies, formats)
        return rows

    def only_right(self) -> list[tuple[Task, Form, int, int, Role]]:
        """Return what one variant alone answered correctly: task, form, item, wording, variant."""
        formats = self.formats
        return [
            (task, form, item, wording, role)
            for task in self.plan.tasks
            for form in self.plan.forms
            for (item, wording), role in only_right(
                task,
                [reply for reply in self.replies if (reply.task, reply.form) == (task.name, form)],
                formats,
            ).items()
        ]

    def differences(self) -> list[PairedDifference]:
        """Return the differences between each pair of variants."""
        return paired_differences(self.plan.tasks, self.replies, self.formats)


def evaluate(trio: Backend, plan: Plan, out: Path | None = None) -> Generator[Evaluation]:
    """Send every prompt of a plan, and yield the state after each; closing the generator cancels.

    Each finished cell, a task in a form, is saved to `out`; cells that `out` already contains are
    not run again.

    Raises:
        PromptError: a prompt cannot be sent, or `out` has other settings or cannot be written; its
            content is kept.
        ModelError: an answer failed.
    """
    head = head_of(trio, plan)
    cells = [
        (task, form, plan.item_wordings(task, form)) for task in plan.tasks for form in plan.forms
    ]
    state = Evaluation(plan, sum(len(item_wordings) for _, _, item_wordings in cells))
    saved = read(out, head, cells, plan.variants) if out else {}
    if out and any((task.name, form) not in saved for task, form, _ in cells):
        check_out(out)
    for task, form, item_wordings in cells:
        if (task.name, form) in saved:
            state.replies += saved[task.name, form]
            state.done += len(item_wordings)
            state.resumed += len(item_wordings)
            yield state
            continue
        replies: list[Reply] = []
        with closing(_replies(trio, state, task, form, item_wordings)) as batches:
            for batch in batches:
                replies += batch
                state.done += 1
                yield state
        state.replies += replies
        if out:
            _write(out, head, state)
        yield state


def head_of(trio: Backend, plan: Plan) -> dict[str, Any]:
    """Return all that the replies depend on (trio, weights and plan), as JSON-ready values."""
    return {
        "trio": trio.trio.name,
        "weights": {role: info.fingerprint for role, info in trio.model_info().items()},
        **plan.record(),
    }


def evaluation_record(head: dict[str, Any], state: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON-ready values: settings, result rows, differences and replies.

    Differences are computed only at the end, since 10,000 bootstrap draws per cell take a while.
    """
    return {
        **head,
        "rows": [asdict(row) for row in state.results()],
        "differences": [asdict(pair) for pair in state.differences()] if state.whole else [],
        "replies": [reply.record() for reply in state.replies],
        "notes": list(state.notes),
    }


def _replies(
    trio: Backend,
    state: Evaluation,
    task: Task,
    form: Form,
    item_wordings: Sequence[tuple[int, int]],
) -> Generator[list[Reply]]:
    """Yield the replies of all variants to each prompt, in order; keep what servers noted."""
    plan = state.plan
    prompt = partial(task.prompt, form, shots=plan.shots)
    prompts = []
    for item, wording in item_wordings:
        with _naming(task, item):
            prompts.append(prompt(task.items[item].input, wording))
    wordings = sorted({wording for _, wording in item_wordings}) if task.labels else []
    blank_prompts = [prompt(BLANK, wording) for wording in wordings]
    blank_answers = ask_all(trio, blank_prompts, 1, task.labels, plan.variants)
    blanks = dict(zip(wordings, blank_answers, strict=True))
    with closing(
        ask_all(trio, prompts, plan.max_new_tokens, task.labels, plan.variants)
    ) as all_answers:
        for item, wording in item_wordings:
            with _naming(task, item):
                answers = next(all_answers)
            for role, answer in answers.items():
                state.notes.update(dict.fromkeys(f"{role}: {note}" for note in answer.notes))
            yield [
                Reply(
                    task=task.name,
                    form=form,
                    variant=role,
                    item=item,
                    wording=wording,
                    text=answer.text,
                    stopped=answer.stopped or "error",
                    label_logprobs=answer.label_logprobs,
                    blank_logprobs=blanks[wording][role].label_logprobs if blanks else (),
                )
                for role, answer in answers.items()
            ]


@contextmanager
def _naming(task: Task, item: int) -> Iterator[None]:
    """Add the task and the number of the item to the message of a `PromptError`."""
    try:
        yield
    except PromptError as error:
        raise PromptError(f"{task.name}, item {item + 1}: {error}") from error


def _write(path: Path, head: dict[str, Any], state: Evaluation) -> None:
    write_whole(
        path, json.dumps(evaluation_record(head, state), ensure_ascii=False, indent=1) + "\n"
    )
