"""Evaluation tasks: labelled samples, read from TOML, and the prompts made of them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from models import Demonstration, Form, Layout, Prompt, PromptError, read_text
from playground.prompting.forms import make_prompt

FOLDER = Path(__file__).with_name("tasks")
TASKS = ("domain", "facts", "sentiment", "topic", "entailment", "cause", "plural")
"""The shipped tasks: the task-tuned variant was tuned on the first; the others are new to all."""
Score = Literal["label", "exact", "text"]
_KEYS = {
    "title": str,
    "cluster": str,
    "held_out": bool,
    "licence": str,
    "source": str,
    "score": str,
    "layout": dict,
    "labels": list,
    "instructions": list,
    "demonstrations": list,
    "items": list,
    "answer_format": str,
}
_MAY_LACK = ("labels", "answer_format")


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled sample: an input, and its one right answer."""

    input: str
    gold: str


@dataclass(frozen=True, slots=True)
class Task:
    """Labelled samples of one kind, and the wordings and layout of their prompts."""

    name: str
    title: str
    cluster: str
    """Kind of task; tuning on one task of a cluster may help with its other tasks."""
    held_out: bool | None
    """Whether no data set of the cluster was trained on; None if that is unknown."""
    licence: str
    source: str
    score: Score
    """How answers are scored: as one of the labels, as exactly the gold, or by likeness to it."""
    layout: Layout
    labels: tuple[str, ...]
    """Empty where the answer is text."""
    instructions: tuple[str, ...]
    """Wordings of the same instruction."""
    demonstrations: tuple[Demonstration, ...]
    """Demonstrations for few-shot prompts; none of them is an item."""
    items: tuple[Item, ...]
    answer_format: str = ""
    """Regular expression of the answers of a variant that was tuned on this task."""

    @property
    def digest(self) -> str:
        """Hash over the whole task: results of tasks with equal hashes can be compared."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def prompt(self, form: Form, input: str, wording: int = 0, shots: int = 4) -> Prompt:
        """Return the prompt for one input.

        Args:
            form: the prompt form; a few-shot prompt has demonstrations, but no instruction.
            input: input of an item, or any other text.
            wording: number of the instruction, or of the demonstration that comes first.
            shots: number of demonstrations.

        Raises:
            PromptError: the prompt is too long, or a field is empty.
        """
        if form == "instruction":
            return make_prompt(form, instruction=self.instructions[wording], input=input)
        rotated = self.demonstrations[wording:] + self.demonstrations[:wording]
        shown = rotated[:shots] if form == "few-shot" else ()
        return make_prompt(form, input=input, demonstrations=shown, layout=self.layout)


def shipped_tasks() -> dict[str, Task]:
    """Return the shipped tasks, by name."""
    return {name: read_task(FOLDER / f"{name}.toml") for name in TASKS}


def read_task(path: Path) -> Task:
    """Read a task from TOML.

    Raises:
        PromptError: the file cannot be read, or a key or value is wrong; the message says where.
    """
    where = path.name
    try:
        table = tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise PromptError(f"{where}: cannot be read as TOML: {error}.") from error
    _check_kinds(table, where)
    if table["score"] not in get_args(Score):
        choice = ", ".join(map(repr, get_args(Score)))
        raise PromptError(f"{where}: score is {table['score']!r}; it must be one of {choice}.")
    layout = table["layout"]
    if set(layout) != {"input", "output"}:
        raise PromptError(f"{where}: layout is {layout!r}; it must name input and output.")
    labels = _texts(table.get("labels", []), f"{where}: labels")
    task = Task(
        **{key: table[key] for key in ("title", "cluster", "held_out", "licence", "source")},
        name=path.stem,
        score=table["score"],
        layout=Layout(*_texts([layout["input"], layout["output"]], f"{where}: layout")),
        labels=labels,
        instructions=_texts(table["instructions"], f"{where}: instructions"),
        demonstrations=tuple(
            Demonstration(*pair)
            for pair in _pairs(table["demonstrations"], labels, f"{where}: demonstrations")
        ),
        answer_format=table.get("answer_format", ""),
        items=tuple(Item(*pair) for pair in _pairs(table["items"], labels, f"{where}: items")),
    )
    _check(task, where)
    return task


def _check_kinds(table: dict[str, Any], where: str) -> None:
    for key in table:
        if key not in _KEYS:
            raise PromptError(f"{where}: unknown key {key!r}. Known keys: {', '.join(_KEYS)}.")
    for key, kind in _KEYS.items():
        if key not in _MAY_LACK and key not in table:
            raise PromptError(f"{where}: key {key!r} is missing.")
        if not isinstance(table.get(key, kind()), kind):
            raise PromptError(f"{where}: {key} is {table[key]!r}; it must be a {kind.__name__}.")


def _check(task: Task, where: str) -> None:
    if (task.score == "label") != (len(task.labels) > 1):
        raise PromptError(
            f"{where}: there are {len(task.labels)} labels; score = 'label' needs two at least, "
            "and 'exact' and 'text' none."
        )
    for name in ("labels", "instructions"):
        texts = getattr(task, name)
        if len(set(texts)) < len(texts):
            raise PromptError(f"{where}: {name} has the same text twice.")
    if not task.instructions or not task.items:
        raise PromptError(f"{where}: a task needs an instruction and an item at least.")
    seen = {shot.input: f"demonstrations[{n}]" for n, shot in enumerate(task.demonstrations)}
    for n, item in enumerate(task.items):
        if item.input in seen:
            raise PromptError(f"{where}: items[{n}] has the input of {seen[item.input]}.")
        seen[item.input] = f"items[{n}]"


def _pairs(values: list[Any], labels: Sequence[str], where: str) -> list[tuple[str, ...]]:
    """Check and return pairs of input and gold; if there are labels, each gold is one of them."""
    pairs = []
    for n, pair in enumerate(values):
        if not isinstance(pair, list) or len(pair) != 2:
            raise PromptError(f"{where}[{n}] is {pair!r}; it must be an input and its answer.")
        pairs.append(_texts(pair, f"{where}[{n}]"))
        if labels and pair[1] not in labels:
            raise PromptError(
                f"{where}[{n}] is answered {pair[1]!r}; the labels are: {', '.join(labels)}."
            )
    return pairs


def _texts(values: list[Any], where: str) -> tuple[str, ...]:
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise PromptError(f"{where}: {value!r} must be text, and not empty.")
    return tuple(values)
