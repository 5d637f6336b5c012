"""The settings of an evaluation: tasks, prompt forms, variants and limits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from models import FORMS, ROLES, Form, PromptError, Role
from playground.evaluation.task import Task

T = TypeVar("T")
_SETTINGS = {"limit": 0, "wordings": 1, "shots": 1, "max_new_tokens": 1}
"""Fields of a plan that are numbers, each with its smallest value."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks, prompt forms and variants of an evaluation, and its limits."""

    tasks: tuple[Task, ...]
    forms: tuple[Form, ...] = FORMS
    variants: tuple[Role, ...] = ROLES
    limit: int = 0
    """Number of items of each task, from the first on; 0 means all."""
    wordings: int = 1
    """Number of wordings that each item is asked in. Successive items start at successive wordings,
    so that all wordings are used even if each item is asked once."""
    shots: int = 4
    """Demonstrations in a few-shot prompt."""
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PromptError: a value is out of its range, or there is nothing to ask.
        """
        if not (self.tasks and self.forms and self.variants):
            raise PromptError("There is nothing to ask: name a task, a form and a variant.")
        for name, least in _SETTINGS.items():
            if getattr(self, name) < least:
                raise PromptError(f"{name} is {getattr(self, name)}; it must be at least {least}.")

    def item_wordings(self, task: Task, form: Form) -> list[tuple[int, int]]:
        """Return the prompts of a task in a form, each as the numbers of its item and wording."""
        available = _wordings(task, form)
        count = min(self.wordings, available)
        items = range(min(self.limit or len(task.items), len(task.items)))
        return [(item, (item + n) % available) for item in items for n in range(count)]

    def record(self) -> dict[str, Any]:
        """Return all settings that the replies depend on, as JSON-ready values."""
        return {
            "tasks": {task.name: task.digest for task in self.tasks},
            "forms": list(self.forms),
            "variants": list(self.variants),
            **{name: getattr(self, name) for name in _SETTINGS},
        }


def named(known: Mapping[str, T], names: Iterable[str], what: str) -> tuple[T, ...]:
    """Return the values with these names, in the order of `known`.

    Raises:
        PromptError: a name is unknown; the message calls it a `what`.
    """
    wanted = set(names)
    if unknown := sorted(wanted - known.keys()):
        raise PromptError(f"There is no {what} {unknown[0]!r}. There are: {', '.join(known)}.")
    return tuple(value for name, value in known.items() if name in wanted)


def _wordings(task: Task, form: Form) -> int:
    """Return how many wordings a form has: instructions, or orders of the demonstrations."""
    if form == "zero-shot":
        return 1
    return max(1, len(task.instructions if form == "instruction" else task.demonstrations))
