"""Reads a saved evaluation, so that it can go on; checks that it is whole and of the same plan."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from models import Form, PromptError, StopReason
from playground.evaluation.config import Plan
from playground.evaluation.results import Reply
from playground.evaluation.task import Task


def read(path: Path, head: dict[str, Any], plan: Plan) -> dict[tuple[str, Form], list[Reply]]:
    """Return the saved replies by task and form; none if there is no file yet.

    Raises:
        PromptError: the file is no saved evaluation, has other settings, or a cell is not whole.
    """
    name, cure = path.name, "Take another file, or take this one away."
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        replies = [Reply.of_record(record) for record in saved["replies"]]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PromptError(f"{name}: cannot be read: {error}. {cure}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PromptError(f"{name}: is no result of an evaluation. {cure}") from error
    for key, value in head.items():
        if saved.get(key) != value:
            raise PromptError(
                f"{name}: {key} was {saved.get(key)!r} there, and is {value!r} now. {cure}"
            )
    cells: dict[tuple[str, Form], list[Reply]] = {}
    for reply in replies:
        cells.setdefault((reply.task, reply.form), []).append(reply)
    for task in plan.tasks:
        for form in plan.forms:
            if (cell := cells.get((task.name, form))) and not _whole(cell, task, form, plan):
                raise PromptError(f"{name}: {task.name}, {form} is not whole there. {cure}")
    return cells


def _whole(replies: Sequence[Reply], task: Task, form: Form, plan: Plan) -> bool:
    """Whether there is exactly one well-formed reply of each variant to each prompt of a cell."""
    expected = [(*pair, role) for pair in plan.item_wordings(task, form) for role in plan.variants]
    actual = [(reply.item, reply.wording, reply.variant) for reply in replies]
    return Counter(map(repr, actual)) == Counter(map(repr, expected)) and all(
        isinstance(reply.text, str)
        and reply.stopped in get_args(StopReason)
        and len(reply.label_logprobs) == len(reply.blank_logprobs) in (0, len(task.labels))
        and all(type(number) is float for number in (*reply.label_logprobs, *reply.blank_logprobs))
        for reply in replies
    )
