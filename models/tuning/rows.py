"""Data sets → training rows: (prompt, completion) texts, rendered as prompts are at run time.

Readers know the layout of a public data set; `make_rows` knows the recipe. No tokenizer, no torch.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.prompt import Message, to_message, to_text
from models.tuning.recipe import Recipe, Source
from models.types import Demonstration, Layout, Prompt


@dataclass(frozen=True, slots=True)
class Example:
    """One solved item of a data set."""

    task: str
    """Items of one task may demonstrate it to each other; empty where each item is its own task."""
    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Row:
    """What is fed in, and what is to come out (the loss is on this part alone)."""

    prompt: str
    completion: str
    special: bool = False
    """The prompt is a rendered template: it holds its own special tokens."""


def make_rows(recipe: Recipe, folder: Path, wrap: Callable[[Message], str]) -> list[Row]:
    """Read a recipe's data and render every row.

    Args:
        recipe: what to take and how to wrap it.
        folder: where the data sets lie.
        wrap: one user message → the chat template's text, generation cue included.

    Returns:
        Rows in an order that the recipe's seed decides.

    Raises:
        WeightsError: a data file is missing; the message names its public home.
    """
    draw = random.Random(recipe.seed)
    rows = []
    for source in recipe.sources:
        examples = [one for one in _read(source, folder) if _wanted(one, source)]
        draw.shuffle(examples)
        by_task = defaultdict(list)
        for example in examples:
            by_task[example.task].append(example)
        for example in examples[: source.rows or None]:
            if recipe.wraps == "text":
                rows.append(Row(f"{example.input}\n", example.output))
            else:
                rows.append(_instruction_row(example, by_task[example.task], recipe, draw, wrap))
    draw.shuffle(rows)
    return rows


def _instruction_row(
    example: Example,
    siblings: list[Example],
    recipe: Recipe,
    draw: random.Random,
    wrap: Callable[[Message], str],
) -> Row:
    prompt = Prompt(example.instruction, example.input)
    if example.task and example.input and draw.random() < recipe.few_shot:
        others = [one for one in siblings if one is not example and one.input]
        shots = tuple(
            Demonstration(one.input, one.output)
            for one in draw.sample(others, min(len(others), draw.randint(1, 4)))
        )
        prompt = replace(prompt, demonstrations=shots, layout=Layout(*draw.choice(_LABELS)))
        if draw.random() < 0.5:
            prompt = replace(prompt, instruction="")
    if draw.random() >= recipe.other_wrapper:
        return Row(wrap(to_message(prompt)), example.output, special=True)
    # The answer opens as the text form would go on: after a cue a space, after a line a line.
    if prompt.layout is not None:
        return Row(to_text(prompt), f" {example.output}")
    if draw.random() < 0.3:
        return Row(f"Q: {to_text(prompt)}\nA:", f" {example.output}")
    if prompt.input and draw.random() < 0.5:
        prompt = Prompt(prompt.input, prompt.instruction)  # the instruction last
    return Row(to_text(prompt), f"\n{example.output}")


_LABELS = (
    ("Input", "Output"),
    ("Input", "Output"),
    ("Text", "Answer"),
    ("Question", "Answer"),
    ("Sentence", "Result"),
)


def _wanted(example: Example, source: Source) -> bool:
    text = f"{example.instruction} {example.input}".lower()
    return (
        bool(example.output)
        and len(example.output) <= source.max_output_chars
        and len(example.instruction) + len(example.input) <= source.max_input_chars
        and not any(word in text for word in source.drop_words)
    )


def _read(source: Source, folder: Path) -> Iterator[Example]:
    path = folder / source.file
    if not path.is_file():
        raise WeightsError(f"{path} is missing. Its public home: {source.home}.")
    return _READERS[source.reader](path, source)


def _json_lines(path: Path) -> Iterator[Any]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _clinc(path: Path, source: Source) -> Iterator[Example]:
    """CLINC150: utterance → `domain / intent`, underscores as spaces."""
    domains = json.loads((path.parent / "domains.json").read_text(encoding="utf-8"))
    label = {
        intent: f"{domain} / {intent}".replace("_", " ")
        for domain, intents in domains.items()
        for intent in intents
    }
    for utterance, intent in json.loads(path.read_text(encoding="utf-8"))["train"]:
        yield Example("", "", utterance.strip(), label[intent])


def _dolly(path: Path, source: Source) -> Iterator[Example]:
    """databricks-dolly-15k; the marks of Wikipedia's references are taken out."""
    for record in _json_lines(path):
        fields = (record["instruction"], record["context"], record["response"])
        instruction, context, response = (re.sub(r"\[\d+\]", "", text).strip() for text in fields)
        yield Example("", instruction, context, response)


def _superni(path: Path, source: Source) -> Iterator[Example]:
    """Super-NaturalInstructions: one task a line, its definition over many instances."""
    for task in _json_lines(path):
        if task["task"].split("_")[0] in source.drop_tasks:
            continue
        definition = task["definition"][0].strip()
        for instance in task["instances"]:
            yield Example(
                task["task"], definition, instance["input"].strip(), instance["output"][0].strip()
            )


def _p3(path: Path, source: Source) -> Iterator[Example]:
    """P3: a human template with the item already in it."""
    for record in _json_lines(path):
        if record["dataset"] not in source.drop_tasks:
            yield Example("", record["prompt"].strip(), "", record["completion"].strip())


def _creak(path: Path, source: Source) -> Iterator[Example]:
    """CREAK: a claim, true or false; the wordings are ours."""
    wordings = (
        "Is this statement true or false?",
        "True or false?",
        "Say whether the following claim is true or false.",
        "Decide if the sentence is true. Answer true or false.",
    )
    for n, record in enumerate(_json_lines(path)):
        yield Example("creak", wordings[n % 4], record["sentence"].strip(), record["label"])


def _seed(path: Path, source: Source) -> Iterator[Example]:
    """Self-Instruct's seed tasks, written by people."""
    for record in _json_lines(path):
        for instance in record["instances"]:
            yield Example(
                "",
                record["instruction"].strip(),
                instance["input"].strip(),
                instance["output"].strip(),
            )


_READERS: dict[str, Callable[[Path, Source], Iterator[Example]]] = {
    "clinc": _clinc,
    "dolly": _dolly,
    "superni": _superni,
    "p3": _p3,
    "creak": _creak,
    "seed": _seed,
}
