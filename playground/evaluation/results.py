"""What variants said to labelled samples → rows of a table, with intervals. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

from models import Form, Role, StopReason
from playground.evaluation.metrics import (
    holm,
    is_valid,
    label_of,
    mcnemar,
    normalised,
    paired_difference,
    rouge_l,
    wilson,
)
from playground.evaluation.task import Task

Scoring = Literal[
    "likelihood", "calibrated", "generation", "valid", "ended", "task-format", "rouge-l"
]
ACCURACIES: tuple[Scoring, ...] = ("likelihood", "calibrated", "generation", "rouge-l")
"""The scorings that say whether an answer is right; the others are of its form."""
Logprobs = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What one variant made of one item under one wording."""

    task: str
    form: Form
    variant: Role
    item: int
    wording: int
    text: str
    stopped: StopReason
    label_logprobs: Logprobs = ()
    """Log-probability of each label as what follows the prompt."""
    blank_logprobs: Logprobs = ()
    """The same after the prompt of no item, "N/A": what the wording alone makes likely."""

    def record(self) -> dict[str, Any]:
        """Return the reply as JSON-ready values, under the keys of `JSON_KEYS`."""
        return {JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Reply:
        """Return the reply that `record` was made of.

        Raises:
            KeyError: a key is missing.
            TypeError: a key is unknown, or holds no list where the field is a tuple.
        """
        fields: dict[str, Any] = {
            name: record[JSON_KEYS.get(name, name)] for name in cls.__dataclass_fields__
        }
        if len(record) > len(fields):
            raise TypeError("a reply has an unknown key")
        return cls(**{**fields, **{name: tuple(fields[name]) for name in JSON_KEYS}})


JSON_KEYS = {"label_logprobs": "nats", "blank_logprobs": "blank"}
"""Fields of a reply that have another key in JSON; saved evaluations hold those keys."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table: a share, or a mean, with its 95 % interval."""

    task: str
    form: Form
    variant: Role
    scoring: Scoring
    held_out: bool | None
    n: int
    """Items; several wordings of one are no further items."""
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two variants on the same items."""

    task: str
    form: Form
    scoring: Scoring
    ours: Role
    theirs: Role
    value: float
    """Mean of ours less theirs, with its 95 % interval by a paired bootstrap."""
    low: float
    high: float
    p: float | None
    """McNemar's, adjusted by Holm over the tasks of the same form, scoring and pair; None where a
    score is no yes or no. Of several wordings the majority counts."""


def scores(task: Task, reply: Reply, formats: Sequence[str]) -> dict[Scoring, float]:
    """Score one reply in every way that the task has.

    Args:
        task: whose item it is.
        reply: what was said.
        formats: regular expressions of what a task-tuned variant answers its own task with.
    """
    gold = task.items[reply.item].gold
    ended = reply.stopped == "eos"
    text = reply.text.strip()
    found: dict[Scoring, float] = {}
    if task.labels:
        if reply.label_logprobs:  # an endpoint ranks no labels
            apart = [a - b for a, b in zip(reply.label_logprobs, reply.blank_logprobs, strict=True)]
            found["likelihood"] = task.labels[_largest(reply.label_logprobs)] == gold
            found["calibrated"] = task.labels[_largest(apart)] == gold
        found["generation"] = label_of(text, task.labels) == gold
        # A text variant's answer may also end where its layout would begin again.
        found["valid"] = is_valid(text, task.labels, ended or reply.stopped == "stop")
    else:
        if task.score == "exact":
            found["generation"] = normalised(text) == normalised(gold)
        found["rouge-l"] = rouge_l(text, gold)
    found["ended"] = ended
    found["task-format"] = any(re.fullmatch(one, text) for one in formats)
    return {scoring: float(value) for scoring, value in found.items()}


def table(task: Task, replies: Iterable[Reply], formats: Sequence[str]) -> list[Result]:
    """Return the rows of one task: each form, variant and scoring."""
    return [
        Result(task.name, form, variant, scoring, task.held_out, len(items), *_share(items))
        for (form, variant, scoring), items in _by_cell(task, replies, formats).items()
    ]


def paired_differences(
    tasks: Iterable[Task], replies: Sequence[Reply], formats: Sequence[str]
) -> list[PairedDifference]:
    """Compare the variants in pairs on every task and form, by the scorings of what is right."""
    found: list[PairedDifference] = []
    for task in tasks:
        cells = _by_cell(task, [one for one in replies if one.task == task.name], formats)
        roles = list(dict.fromkeys(variant for _, variant, _ in cells))
        for theirs, ours in combinations(roles, 2):
            for form, variant, scoring in cells:
                both = variant == theirs and (form, ours, scoring) in cells
                if both and scoring in ACCURACIES:
                    pair = [cells[form, role, scoring] for role in (ours, theirs)]
                    values = [[list(item.values()) for item in cell] for cell in pair]
                    asked = [list(item) for item in pair[0]]
                    apart = paired_difference(values[0], values[1], asked)
                    p = None if scoring == "rouge-l" else mcnemar(*map(_yes_or_no, values))
                    found.append(
                        PairedDifference(task.name, form, scoring, ours, theirs, *apart, p)
                    )
    return _adjusted(found)


def only_right(
    task: Task, replies: Iterable[Reply], formats: Sequence[str]
) -> dict[tuple[int, int], Role]:
    """Return the items and wordings that exactly one variant said the right answer to, and which.

    Args:
        task: whose items they are.
        replies: of one form.
        formats: see `scores`.
    """
    right: dict[tuple[int, int], set[Role]] = {}
    for one in replies:
        if scores(task, one, formats).get("generation"):
            right.setdefault((one.item, one.wording), set()).add(one.variant)
    return {key: roles.pop() for key, roles in sorted(right.items()) if len(roles) == 1}


_Cell = tuple[Form, Role, Scoring]
_Item = dict[int, float]
"""The scores of one item, by the number of the wording."""


def _by_cell(
    task: Task, replies: Iterable[Reply], formats: Sequence[str]
) -> dict[_Cell, list[_Item]]:
    """Return each cell's scores, in the order of the items."""
    cells: dict[_Cell, dict[int, _Item]] = {}
    for one in sorted(replies, key=lambda reply: (reply.item, reply.wording)):
        for scoring, value in scores(task, one, formats).items():
            cell = cells.setdefault((one.form, one.variant, scoring), {})
            cell.setdefault(one.item, {})[one.wording] = value
    return {key: list(items.values()) for key, items in cells.items()}


def _share(items: list[_Item]) -> tuple[float, float, float]:
    """Return the mean over items and wordings; the interval is that of as many items."""
    value = sum(sum(item.values()) / len(item) for item in items) / len(items)
    return value, *wilson(value * len(items), len(items))


def _yes_or_no(items: list[list[float]]) -> list[bool]:
    """Whether most wordings of each item were answered rightly."""
    return [sum(item) * 2 > len(item) for item in items]


def _adjusted(found: list[PairedDifference]) -> list[PairedDifference]:
    """Adjust p-values for how many tasks were compared in the same way."""
    families: dict[tuple[Form, Scoring, Role, Role], dict[str, float]] = {}
    for one in found:
        if one.p is not None:
            family = families.setdefault((one.form, one.scoring, one.ours, one.theirs), {})
            family[one.task] = one.p
    adjusted = {key: holm(values) for key, values in families.items()}
    return [
        one
        if one.p is None
        else replace(one, p=adjusted[one.form, one.scoring, one.ours, one.theirs][one.task])
        for one in found
    ]


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
