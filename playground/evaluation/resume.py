"""Reads a saved evaluation to resume it, and checks that it is complete and of the same plan."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from models import Form, PromptError, Role, StopReason, read_text
from playground.evaluation.results import Reply
from playground.evaluation.task import Task

Cell = tuple[Task, Form, list[tuple[int, int]]]
"""A task, a prompt form, and its prompts, each as the numbers of its item and wording."""


def read(
    path: Path, head: dict[str, Any], cells: Iterable[Cell], variants: Sequence[Role]
) -> dict[tuple[str, Form], list[Reply]]:
    """Return the saved replies by task and form; none if there is no file yet.

    Args:
        path: the file.
        head: the settings that the file must have.
        cells: the cells of the evaluation.
        variants: the variants that reply.

    Raises:
        PromptError: the file is not a saved evaluation, has other settings, or has an incomplete
            cell.
    """
    name, cure = path.name, "Take another file, or take this one away."
    try:
        saved = json.loads(read_text(path))
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
    by_cell: dict[tuple[str, Form], list[Reply]] = {}
    for reply in replies:
        by_cell.setdefault((reply.task, reply.form), []).append(reply)
    for task, form, item_wordings in cells:
        expected = [(*pair, role) for pair in item_wordings for role in variants]
        if (cell := by_cell.get((task.name, form))) and not _whole(cell, task, expected):
            raise PromptError(f"{name}: {task.name}, {form} is not whole there. {cure}")
    return by_cell


def _whole(replies: Sequence[Reply], task: Task, expected: Sequence[tuple[int, int, Role]]) -> bool:
    """Whether each expected item, wording and variant has exactly one well-formed reply."""
    actual = [(reply.item, reply.wording, reply.variant) for reply in replies]
    return Counter(map(repr, actual)) == Counter(map(repr, expected)) and all(
        isinstance(reply.text, str)
        and reply.stopped in get_args(StopReason)
        and len(reply.label_logprobs) == len(reply.blank_logprobs) in (0, len(task.labels))
        and all(type(number) is float for number in (*reply.label_logprobs, *reply.blank_logprobs))
        for reply in replies
    )
