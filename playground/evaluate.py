"""Tasks × prompt forms × variants → what each said, saved as it goes, and a table of it.

The variants answer together, several items at once, through the same engine that answers people.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from models import FORMS, ROLES, Backend, Form, Prompt, PromptError, Role
from playground.asking import ask_all
from playground.files import write_whole
from playground.results import Difference, Reply, Result, differences, only_right, table
from playground.tasks import Task, shipped_tasks

T = TypeVar("T")
BLANK = "N/A"
"""The item that is none, for calibration (Zhao et al. 2102.09690)."""
_SETTINGS = {"limit": 0, "wordings": 1, "shots": 1, "max_new_tokens": 1}
"""Numbers of a plan, and the least that each may be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, of whom, and how."""

    tasks: tuple[Task, ...]
    forms: tuple[Form, ...] = FORMS
    variants: tuple[Role, ...] = ROLES
    limit: int = 0
    """Items of each task, the first ones; 0 asks all."""
    wordings: int = 1
    """Wordings that each item is asked in. Items begin with one after the other, so that all are
    used even where each item is asked once."""
    shots: int = 4
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            PromptError: a value is out of its range, or nothing would be asked.
        """
        if not (self.tasks and self.forms and self.variants):
            raise PromptError("There is nothing to ask: name a task, a form and a variant.")
        for name, least in _SETTINGS.items():
            if getattr(self, name) < least:
                raise PromptError(f"{name} is {getattr(self, name)}; it must be at least {least}.")

    def asks(self, task: Task, form: Form) -> list[tuple[int, int]]:
        """Return item and wording of every prompt of one task in one form."""
        among = _wordings(task, form)
        each = min(self.wordings, among)
        items = range(min(self.limit or len(task.items), len(task.items)))
        return [(item, (item + n) % among) for item in items for n in range(each)]

    def record(self) -> dict[str, Any]:
        """Return what decides the replies, as JSON-ready values."""
        return {
            "tasks": {task.name: task.digest for task in self.tasks},
            "forms": list(self.forms),
            "variants": list(self.variants),
            **{name: getattr(self, name) for name in _SETTINGS},
        }


def named(known: Mapping[str, T], names: Iterable[str], what: str) -> tuple[T, ...]:
    """Return what goes by some names, in the order of `known`.

    Raises:
        PromptError: there is no such name.
    """
    asked = set(names)
    if unknown := sorted(asked - known.keys()):
        raise PromptError(f"There is no {what} {unknown[0]!r}. There are: {', '.join(known)}.")
    return tuple(value for name, value in known.items() if name in asked)


def _wordings(task: Task, form: Form) -> int:
    """Return in how many ways a form can ask: instructions, or orders of the demonstrations."""
    if form == "zero-shot":
        return 1
    return max(1, len(task.instructions if form == "instruction" else task.demonstrations))


@dataclass(slots=True)
class Evaluation:
    """How far it has come, and what was said."""

    plan: Plan
    total: int
    """Prompts to ask."""
    done: int = 0
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

    def differences(self) -> list[Difference]:
        """Compare the variants in pairs."""
        return differences(self.plan.tasks, self.replies, self.formats)


def evaluate(
    trio: Backend, plan: Plan, out: Path | None = None, earlier: Path | None = None
) -> Generator[Evaluation]:
    """Ask everything that is planned, and yield after every prompt; closing it ends the asking.

    Args:
        trio: whose variants are asked.
        plan: what is asked.
        out: where each finished task and form is saved; what it holds is not asked again.
        earlier: another file of the same plan; what it holds is not asked again.

    Raises:
        PromptError: a task cannot be sent, or a file is another plan's; nothing is lost.
        ModelError: an answer failed.
    """
    head = head_of(trio, plan)
    cells = [(task, form) for task in plan.tasks for form in plan.forms]
    state = Evaluation(plan, sum(len(plan.asks(*cell)) for cell in cells))
    held = next((found for one in (out, earlier) if one and (found := _read(one, head))), [])
    for task, form in cells:
        asks = plan.asks(task, form)
        mine = [one for one in held if (one.task, one.form) == (task.name, form)]
        if mine:
            if len(mine) != len(asks) * len(plan.variants):
                raise PromptError(
                    f"{task.name}, {form} is not whole in the earlier results. Take another file."
                )
            state.replies += mine
            state.done += len(asks)
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
        "weights": {role: one.fingerprint for role, one in trio.loaded().items()},
        **plan.record(),
    }


def record(head: dict[str, Any], state: Evaluation) -> dict[str, Any]:
    """Return an evaluation as one plain object: what was asked, the table, and every reply.

    The variants are compared in pairs when all is asked: ten thousand draws a cell take a while.
    """
    return {
        **head,
        "rows": [asdict(one) for one in state.results()],
        "differences": [asdict(one) for one in state.differences()] if state.whole else [],
        "replies": [asdict(one) for one in state.replies],
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
                    nats=one.nats,
                    blank=blanks[wording][role].nats if blanks else (),
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


def _read(path: Path, head: dict[str, Any]) -> list[Reply]:
    """Return the replies that a file holds; it may not be there yet."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: cannot be read: {error}. Take another file.") from error
    try:
        held = json.loads(text)
        replies = [
            Reply(**{**one, "nats": tuple(one["nats"]), "blank": tuple(one["blank"])})
            for one in held["replies"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise PromptError(
            f"{path.name}: is no result of an evaluation. Take another file."
        ) from error
    for name, value in head.items():
        if held.get(name) != value:
            raise PromptError(
                f"{path.name}: {name} was {held.get(name)!r} there, and is {value!r} now. "
                "Take another file, or ask the same."
            )
    return replies


def _write(path: Path, head: dict[str, Any], state: Evaluation) -> None:
    """Save all at once."""
    write_whole(path, json.dumps(record(head, state), ensure_ascii=False, indent=1) + "\n")
