"""What an evaluation asks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from models import FORMS, ROLES, Form, PromptError, Role
from playground.evaluation.task import Task

T = TypeVar("T")
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
