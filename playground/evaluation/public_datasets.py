"""Public data sets as tasks, read from a local folder. None of them ships with the project."""

from __future__ import annotations

import csv
import gzip
import json
import random
import tomllib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

from models import Demonstration, Layout, PromptError, read_clinc150, read_creak
from playground.evaluation.task import FOLDER, Item, Task, shipped_tasks

ITEMS = 200
"""Items drawn from each data set, the same number for each label."""
DEMONSTRATIONS = 8
"""Demonstrations drawn from a data set that is not modelled on a shipped task."""
_DAMAGE = (
    OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError,
    csv.Error, ElementTree.ParseError,
)  # fmt: skip
"""Errors of readers on a file that is not as it was published."""
Pair = tuple[str, str]
"""Input and gold."""


def public_tasks(data: Path) -> dict[str, Task]:
    """Return the tasks of the public data sets in a folder, by name.

    Raises:
        PromptError: the folder holds none of them, or one is damaged.
    """
    entries = tomllib.loads((FOLDER / "public.toml").read_text(encoding="utf-8"))
    shipped = shipped_tasks()
    tasks = {
        name: _task(name, entry, shipped, data)
        for name, entry in entries.items()
        if (data / entry["file"]).is_file()
    }
    if not tasks:
        homes = ", ".join(f"{entry['file']} ({entry['home']})" for entry in entries.values())
        raise PromptError(f"{data}: holds none of the public sets. It may hold: {homes}.")
    return tasks


def _task(name: str, table: dict[str, Any], shipped: dict[str, Task], data: Path) -> Task:
    like = shipped.get(table.get("like", ""))
    path = data / table["file"]
    try:
        pairs = list(_READERS[table["reader"]](path, table.get("part", "")))
    except _DAMAGE as error:
        raise PromptError(
            f"{path}: is damaged ({type(error).__name__}: {error}). Take it from {table['home']} "
            "again."
        ) from error
    labels = like.labels if like else ()
    items = _balanced(pairs, labels) if labels else _draw(pairs, ITEMS + DEMONSTRATIONS)
    common = {
        "name": name,
        "title": table["title"],
        "licence": table["licence"],
        "source": table["home"],
    }
    if like:
        return replace(like, **common, items=tuple(Item(*pair) for pair in items), answer_format="")
    shots, items = items[:DEMONSTRATIONS], items[DEMONSTRATIONS:]
    return Task(
        **common,
        cluster=table["cluster"],
        held_out=table["held_out"],
        score=table["score"],
        layout=Layout(table["layout"]["input"], table["layout"]["output"]),
        labels=(),
        instructions=tuple(table["instructions"]),
        demonstrations=tuple(Demonstration(*pair) for pair in shots),
        items=tuple(Item(*pair) for pair in items),
    )


def _balanced(pairs: Iterable[Pair], labels: tuple[str, ...]) -> list[Pair]:
    """Draw the same number of items for each label, and shuffle them."""
    by_label = defaultdict(list)
    for pair in pairs:
        by_label[pair[1]].append(pair)
    per_label = ITEMS // len(labels)
    return _draw([pair for label in labels for pair in _draw(by_label[label], per_label)], ITEMS)


def _draw(pairs: list[Pair], count: int) -> list[Pair]:
    return random.Random(0).sample(pairs, min(count, len(pairs)))


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _clinc(path: Path, part: str) -> Iterator[Pair]:
    """CLINC150's test split; the label is the domain."""
    for utterance, label in read_clinc150(path, "test"):
        yield utterance, label.partition(" / ")[0]


def _uci(path: Path, part: str) -> Iterator[Pair]:
    """UCI sentences with their sentiment: the sentence, a tab, and 1 or 0."""
    with _opened(path) as lines:
        for line in lines:
            text, _, label = line.rstrip("\n").rpartition("\t")
            if label in ("0", "1"):
                yield text.strip(), "positive" if label == "1" else "negative"


def _snli(path: Path, part: str) -> Iterator[Pair]:
    """SNLI as CSV: premise, hypothesis and one of three labels."""
    answers = {"entailment": "yes", "contradiction": "no", "neutral": "maybe"}
    with _opened(path) as lines:
        for row in csv.DictReader(lines):
            if row["label"] in answers:
                text = f"Premise: {row['premise']} Hypothesis: {row['hypothesis']}"
                yield text, answers[row["label"]]


def _copa(path: Path, part: str) -> Iterator[Pair]:
    """COPA's 500 test items: an event, and which of two sentences is its cause or effect."""
    for item in ElementTree.parse(path).getroot().findall("item")[500:]:
        event, a, b = (item.findtext(tag, "").strip() for tag in ("p", "a1", "a2"))
        question = f"What was the {item.get('asks-for')}?"
        yield (
            f"{event} {question} A: {a} B: {b}",
            "AB"[int(item.get("most-plausible-alternative", 1)) - 1],
        )


def _induction(path: Path, part: str) -> Iterator[Pair]:
    """One task of Instruction Induction; `part` is the name of its file."""
    with _opened(path) as file:
        examples = json.load(file)[f"data/raw/execute/{part}.json"]["examples"]
    for example in examples.values():
        yield example["input"], example["output"]


def _creak(path: Path, part: str) -> Iterator[Pair]:
    """CREAK's claims, true or false."""
    yield from read_creak(path)


def _xquad(path: Path, part: str) -> Iterator[Pair]:
    """XQuAD's questions on passages of up to 900 characters."""
    with _opened(path) as file:
        articles = json.load(file)["data"]
    for article in articles:
        for passage in article["paragraphs"]:
            for question in passage["qas"]:
                if len(passage["context"]) <= 900:
                    text = f"{passage['context']}\nQuestion: {question['question']}"
                    yield text, question["answers"][0]["text"]


def _scitldr(path: Path, part: str) -> Iterator[Pair]:
    """SciTLDR's test split; the first of several summaries is the gold."""
    with _opened(path) as lines:
        for paper in map(json.loads, lines):
            if paper["split"] == "test":
                yield paper["source"], paper["target"][0]


_READERS: dict[str, Callable[[Path, str], Iterator[Pair]]] = {
    "clinc": _clinc,
    "uci": _uci,
    "snli": _snli,
    "copa": _copa,
    "induction": _induction,
    "creak": _creak,
    "xquad": _xquad,
    "scitldr": _scitldr,
}
