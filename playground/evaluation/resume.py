"""What an evaluation saved → its replies, if they are what a plan asks. Nothing is believed."""

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
    """Return the replies that a file holds, cell by cell; it may not be there yet.

    Raises:
        PromptError: it is no result of an evaluation, of another plan, or not whole.
    """
    name, cure = path.name, "Take another file, or take this one away."
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        replies = [Reply.of_record(record) for record in held["replies"]]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PromptError(f"{name}: cannot be read: {error}. {cure}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PromptError(f"{name}: is no result of an evaluation. {cure}") from error
    for key, value in head.items():
        if held.get(key) != value:
            raise PromptError(
                f"{name}: {key} was {held.get(key)!r} there, and is {value!r} now. {cure}"
            )
    cells: dict[tuple[str, Form], list[Reply]] = {}
    for one in replies:
        cells.setdefault((one.task, one.form), []).append(one)
    for task in plan.tasks:
        for form in plan.forms:
            if (mine := cells.get((task.name, form))) and not _whole(mine, task, form, plan):
                raise PromptError(f"{name}: {task.name}, {form} is not whole there. {cure}")
    return cells


def _whole(replies: Sequence[Reply], task: Task, form: Form, plan: Plan) -> bool:
    """Whether these are one reply of each variant to each prompt, as `_replies` makes them."""
    asked = [(*ask, role) for ask in plan.asks(task, form) for role in plan.variants]
    said = [(one.item, one.wording, one.variant) for one in replies]
    return Counter(map(repr, said)) == Counter(map(repr, asked)) and all(
        isinstance(one.text, str)
        and one.stopped in get_args(StopReason)
        and len(one.label_logprobs) == len(one.blank_logprobs) in (0, len(task.labels))
        and all(type(number) is float for number in (*one.label_logprobs, *one.blank_logprobs))
        for one in replies
    )
