"""Replies to labelled samples → the result table, with intervals and paired differences. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

from models import Form, Role, StopReason
from playground.comparison.labels import is_valid, label_of, normalised
from playground.evaluation.metrics import holm, mcnemar, paired_difference, rouge_l, wilson
from playground.evaluation.task import Task

Scoring = Literal[
    "likelihood", "calibrated", "generation", "valid", "ended", "task-format", "rouge-l"
]
ACCURACIES: tuple[Scoring, ...] = ("likelihood", "calibrated", "generation", "rouge-l")
"""The scorings that measure whether an answer is right; the others look at its format."""
Logprobs = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of one variant to one item in one wording."""

    task: str
    form: Form
    variant: Role
    item: int
    wording: int
    text: str
    stopped: StopReason
    label_logprobs: Logprobs = ()
    """Log-probability of each label as the continuation of the prompt."""
    blank_logprobs: Logprobs = ()
    """The same after a prompt whose input is "N/A", which shows how much the wording alone favours
    each label."""

    def record(self) -> dict[str, Any]:
        """Return the reply as JSON-ready values, with its keys renamed by `JSON_KEYS`."""
        return {JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Reply:
        """Return the reply of a record: the inverse of `record`.

        Raises:
            KeyError: a key is missing.
            TypeError: a key is unknown, or a value is no list where the field is a tuple.
        """
        fields: dict[str, Any] = {
            name: record[JSON_KEYS.get(name, name)] for name in cls.__dataclass_fields__
        }
        if len(record) > len(fields):
            raise TypeError("a reply has an unknown key")
        return cls(**{**fields, **{name: tuple(fields[name]) for name in JSON_KEYS}})


JSON_KEYS = {"label_logprobs": "nats", "blank_logprobs": "blank"}
"""Fields whose key in JSON differs from their name, because saved evaluations have that key."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the result table: a proportion or mean with its 95 % interval."""

    task: str
    form: Form
    variant: Role
    scoring: Scoring
    held_out: bool | None
    n: int
    """Number of items; an item asked in several wordings counts once."""
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of two variants' scores on the same items."""

    task: str
    form: Form
    scoring: Scoring
    ours: Role
    theirs: Role
    value: float
    """Mean of our scores minus theirs; `low` to `high` is its 95 % interval (paired bootstrap)."""
    low: float
    high: float
    p: float | None
    """P-value of McNemar's test, adjusted by Holm over the tasks with the same form, scoring and
    pair of variants; None for scores that are not 0 or 1. An item asked in several wordings counts
    as right if most of its answers are."""


def scores(task: Task, reply: Reply, formats: Sequence[str]) -> dict[Scoring, float]:
    """Score one reply by every scoring of its task.

    Args:
        task: the task of the replied item.
        reply: the reply.
        formats: regular expressions of the formats in which task-tuned variants answer.
    """
    gold = task.items[reply.item].gold
    ended = reply.stopped == "eos"
    text = reply.text.strip()
    values: dict[Scoring, float] = {}
    if task.labels:
        if reply.label_logprobs:  # an endpoint ranks no labels
            both = zip(reply.label_logprobs, reply.blank_logprobs, strict=True)
            calibrated = [logprob - blank for logprob, blank in both]
            values["likelihood"] = task.labels[_largest(reply.label_logprobs)] == gold
            values["calibrated"] = task.labels[_largest(calibrated)] == gold
        values["generation"] = label_of(text, task.labels) == gold
        # A text variant's answer may also end at its stop text.
        values["valid"] = is_valid(text, task.labels, ended or reply.stopped == "stop")
    else:
        if task.score == "exact":
            values["generation"] = normalised(text) == normalised(gold)
        values["rouge-l"] = rouge_l(text, gold)
    values["ended"] = ended
    values["task-format"] = any(re.fullmatch(pattern, text) for pattern in formats)
    return {scoring: float(value) for scoring, value in values.items()}


def table(task: Task, replies: Iterable[Reply], formats: Sequence[str]) -> list[Result]:
    """Return the result rows of one task, one for each form, variant and scoring."""
    return [
        Result(task.name, form, variant, scoring, task.held_out, len(items), *_share(items))
        for (form, variant, scoring), items in _by_cell(task, replies, formats).items()
    ]


def paired_differences(
    tasks: Iterable[Task], replies: Sequence[Reply], formats: Sequence[str]
) -> list[PairedDifference]:
    """Compare each pair of variants on every task and form, by each scoring in `ACCURACIES`."""
    differences: list[PairedDifference] = []
    for task in tasks:
        cells = _by_cell(task, [reply for reply in replies if reply.task == task.name], formats)
        roles = list(dict.fromkeys(variant for _, variant, _ in cells))
        for theirs, ours in combinations(roles, 2):
            for form, variant, scoring in cells:
                both = variant == theirs and (form, ours, scoring) in cells
                if both and scoring in ACCURACIES:
                    pair = [cells[form, role, scoring] for role in (ours, theirs)]
                    values = [[list(item.values()) for item in cell] for cell in pair]
                    wordings = [list(item) for item in pair[0]]
                    difference = paired_difference(values[0], values[1], wordings)
                    p = None if scoring == "rouge-l" else mcnemar(*map(_yes_or_no, values))
                    differences.append(
                        PairedDifference(task.name, form, scoring, ours, theirs, *difference, p)
                    )
    return _adjusted(differences)


def only_right(
    task: Task, replies: Iterable[Reply], formats: Sequence[str]
) -> dict[tuple[int, int], Role]:
    """Return the items that exactly one variant answered correctly.

    Args:
        task: the task of the items.
        replies: replies to them in one prompt form.
        formats: as for `scores`.

    Returns:
        The variant, by the numbers of item and wording.
    """
    right: dict[tuple[int, int], set[Role]] = {}
    for reply in replies:
        if scores(task, reply, formats).get("generation"):
            right.setdefault((reply.item, reply.wording), set()).add(reply.variant)
    return {key: roles.pop() for key, roles in sorted(right.items()) if len(roles) == 1}


_Cell = tuple[Form, Role, Scoring]
_Item = dict[int, float]
"""The scores of one item, by the number of their wording."""


def _by_cell(
    task: Task, replies: Iterable[Reply], formats: Sequence[str]
) -> dict[_Cell, list[_Item]]:
    """Return the scores of each cell, item by item."""
    cells: dict[_Cell, dict[int, _Item]] = {}
    for reply in sorted(replies, key=lambda reply: (reply.item, reply.wording)):
        for scoring, value in scores(task, reply, formats).items():
            cell = cells.setdefault((reply.form, reply.variant, scoring), {})
            cell.setdefault(reply.item, {})[reply.wording] = value
    return {key: list(items.values()) for key, items in cells.items()}


def _share(items: list[_Item]) -> tuple[float, float, float]:
    """Return the mean over items and wordings, and its interval for that number of items."""
    value = sum(sum(item.values()) / len(item) for item in items) / len(items)
    return value, *wilson(value * len(items), len(items))


def _yes_or_no(items: list[list[float]]) -> list[bool]:
    """Return for each item whether it was answered correctly in most wordings."""
    return [sum(item) * 2 > len(item) for item in items]


_Family = tuple[Form, Scoring, Role, Role]


def _family(difference: PairedDifference) -> _Family:
    return difference.form, difference.scoring, difference.ours, difference.theirs


def _adjusted(differences: list[PairedDifference]) -> list[PairedDifference]:
    """Adjust p-values for multiple tests over the tasks of each family."""
    families: dict[_Family, dict[str, float]] = {}
    for difference in differences:
        if difference.p is not None:
            families.setdefault(_family(difference), {})[difference.task] = difference.p
    adjusted = {family: holm(p_values) for family, p_values in families.items()}
    return [
        difference
        if difference.p is None
        else replace(difference, p=adjusted[_family(difference)][difference.task])
        for difference in differences
    ]


def _largest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
