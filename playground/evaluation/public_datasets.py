"""Public data sets as tasks, read from a folder of one's own. Nothing of them ships."""

from __future__ import annotations

import csv
import gzip
import json
import random
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree

from models import Demonstration, Layout, PromptError, read_clinc150, read_creak
from playground.evaluation.task import FOLDER, Item, Task, shipped_tasks

ITEMS = 200
"""Items of each set, as many of each label."""
DEMONSTRATIONS = 8
Pair = tuple[str, str]


def public_tasks(data: Path) -> dict[str, Task]:
    """Return the tasks of the public sets that lie in a folder, by name.

    Raises:
        PromptError: none of the sets is there.
    """
    table = tomllib.loads((FOLDER / "public.toml").read_text(encoding="utf-8"))
    shipped = shipped_tasks()
    found = {
        name: _task(name, one, shipped, data)
        for name, one in table.items()
        if (data / one["file"]).is_file()
    }
    if not found:
        homes = ", ".join(f"{one['file']} ({one['home']})" for one in table.values())
        raise PromptError(f"{data}: holds none of the public sets. It may hold: {homes}.")
    return found


def _task(name: str, table: dict[str, Any], shipped: dict[str, Task], data: Path) -> Task:
    like = shipped.get(table.get("like", ""))
    pairs = list(_READERS[table["reader"]](data / table["file"], table.get("part", "")))
    labels = like.labels if like else ()
    items = _balanced(pairs, labels) if labels else _drawn(pairs, ITEMS + DEMONSTRATIONS)
    common = {
        "name": name,
        "title": table["title"],
        "licence": table["licence"],
        "source": table["home"],
    }
    if like:
        return replace(like, **common, items=tuple(Item(*one) for one in items), answer_format="")
    shown, items = items[:DEMONSTRATIONS], items[DEMONSTRATIONS:]
    return Task(
        **common,
        cluster=table["cluster"],
        held_out=table["held_out"],
        score=table["score"],
        layout=Layout(table["layout"]["input"], table["layout"]["output"]),
        labels=(),
        instructions=tuple(table["instructions"]),
        demonstrations=tuple(Demonstration(*one) for one in shown),
        items=tuple(Item(*one) for one in items),
    )


def _balanced(pairs: Iterable[Pair], labels: tuple[str, ...]) -> list[Pair]:
    """Draw as many items of each label, and mix them."""
    by_label = defaultdict(list)
    for pair in pairs:
        by_label[pair[1]].append(pair)
    each = ITEMS // len(labels)
    return _drawn([one for label in labels for one in _drawn(by_label[label], each)], ITEMS)


def _drawn(pairs: list[Pair], count: int) -> list[Pair]:
    return random.Random(0).sample(pairs, min(count, len(pairs)))


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _clinc(path: Path, part: str) -> Iterator[Pair]:
    """The test utterances; the label is the domain."""
    for utterance, label in read_clinc150(path, "test"):
        yield utterance, label.partition(" / ")[0]


def _uci(path: Path, part: str) -> Iterator[Pair]:
    """A sentence, a tab, and 1 or 0."""
    with _opened(path) as lines:
        for line in lines:
            text, _, label = line.rstrip("\n").rpartition("\t")
            if label in ("0", "1"):
                yield text.strip(), "positive" if label == "1" else "negative"


def _snli(path: Path, part: str) -> Iterator[Pair]:
    """Premise, hypothesis and one of three labels, as CSV."""
    said = {"entailment": "yes", "contradiction": "no", "neutral": "maybe"}
    with _opened(path) as lines:
        for row in csv.DictReader(lines):
            if row["label"] in said:
                text = f"Premise: {row['premise']} Hypothesis: {row['hypothesis']}"
                yield text, said[row["label"]]


def _copa(path: Path, part: str) -> Iterator[Pair]:
    """The 500 test items: an event, and which of two is its cause or effect."""
    for item in ElementTree.parse(path).getroot().findall("item")[500:]:
        event, a, b = (item.findtext(tag, "").strip() for tag in ("p", "a1", "a2"))
        asks = f"What was the {item.get('asks-for')}?"
        yield (
            f"{event} {asks} A: {a} B: {b}",
            "AB"[int(item.get("most-plausible-alternative", 1)) - 1],
        )


def _induction(path: Path, part: str) -> Iterator[Pair]:
    """Instruction Induction: one of its tasks, by the name of its file."""
    with _opened(path) as file:
        examples = json.load(file)[f"data/raw/execute/{part}.json"]["examples"]
    for one in examples.values():
        yield one["input"], one["output"]


def _creak(path: Path, part: str) -> Iterator[Pair]:
    yield from read_creak(path)


def _xquad(path: Path, part: str) -> Iterator[Pair]:
    """Passages of up to 900 characters, each with a question."""
    with _opened(path) as file:
        articles = json.load(file)["data"]
    for article in articles:
        for passage in article["paragraphs"]:
            for asked in passage["qas"]:
                if len(passage["context"]) <= 900:
                    text = f"{passage['context']}\nQuestion: {asked['question']}"
                    yield text, asked["answers"][0]["text"]


def _scitldr(path: Path, part: str) -> Iterator[Pair]:
    """The test split; the first of several summaries is the reference."""
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
