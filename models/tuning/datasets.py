"""Readers of public data sets: files → training examples. Each reader knows one file format."""

from __future__ import annotations

import gzip
import json
import random
import re
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.tuning import wordings
from models.tuning.own_rows import read_passages, read_rows
from models.tuning.raw_example import RawExample
from models.tuning.recipe import FOLDER, Decontamination, Source

PHRASE_WORDS = 8
"""Number of words in a phrase: so many in a row that independent texts do not share them."""
_DAMAGE = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError)
"""Errors of readers on a file that is not as it was published."""


def read(source: Source, folder: Path) -> Iterator[RawExample]:
    """Yield the examples of a source.

    Raises:
        WeightsError: the file is missing or damaged; the message names its public home.
    """
    path = _existing_file(source, folder)
    try:
        yield from _READERS[source.reader](path, source)
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Its public home: "
            f"{source.home}."
        ) from error


def phrases_of(avoided: Decontamination, folder: Path) -> set[str]:
    """Return the phrases of an evaluation file, which no training row may contain.

    Raises:
        WeightsError: the file is missing; the message names its public home.
    """
    all_phrases: set[str] = set()
    for line in _lines(_existing_file(avoided, folder)):
        if not avoided.only_tasks or json.loads(line)["dataset"] in avoided.only_tasks:
            all_phrases.update(phrases(_ESCAPE.sub(_unescaped, line)))
    return all_phrases


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|[nrt])")
"""What JSON writes for a character that would else end the line, or be no ASCII."""


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else " "


def phrases(text: str) -> set[str]:
    """Return all runs of `PHRASE_WORDS` words of a text, in lower case."""
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[n : n + PHRASE_WORDS]) for n in range(len(words) - PHRASE_WORDS + 1)}


def _existing_file(source: Source | Decontamination, folder: Path) -> Path:
    path = folder / source.file
    if path.is_file():
        return path
    if (own := FOLDER / "data" / source.file).is_file():
        return own
    raise WeightsError(f"{path} is missing. Its public home: {source.home}.")


def _lines(path: Path) -> Iterator[str]:
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rt", encoding="utf-8", errors="replace") as lines:
        yield from lines


def _json_lines(path: Path) -> Iterator[Any]:
    yield from map(json.loads, _lines(path))


def read_clinc150(path: Path, split: str) -> Iterator[tuple[str, str]]:
    """Yield CLINC150's utterances, each with its label: `domain / intent`, underscores as spaces.

    Raises:
        OSError: the file, or `domains.json` beside it, cannot be read.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))[split]
    domains = json.loads((path.parent / "domains.json").read_text(encoding="utf-8"))
    label = {
        intent: f"{domain} / {intent}".replace("_", " ")
        for domain, intents in domains.items()
        for intent in intents
    }
    for utterance, intent in rows:
        yield utterance.strip(), label[intent]


def read_creak(path: Path) -> Iterator[tuple[str, str]]:
    """Yield CREAK's claims, each with its label: `true` or `false`."""
    for record in _json_lines(path):
        yield record["sentence"].strip(), record["label"]


def _clinc(path: Path, source: Source) -> Iterator[RawExample]:
    for utterance, label in read_clinc150(path, source.split):
        yield RawExample("", "", utterance, label)


def _dolly(path: Path, source: Source) -> Iterator[RawExample]:
    """databricks-dolly-15k, without Wikipedia's reference marks such as [1]."""
    for record in _json_lines(path):
        fields = (record["instruction"], record["context"], record["response"])
        instruction, context, response = (re.sub(r"\[\d+\]", "", text).strip() for text in fields)
        yield RawExample("", instruction, context, response)


def _contexts(path: Path, source: Source) -> Iterator[RawExample]:
    """The passages of databricks-dolly-15k, mostly of Wikipedia, as plain texts."""
    for example in _dolly(path, source):
        if example.input:
            yield RawExample("", "", "", example.input)


def _oasst(path: Path, source: Source) -> Iterator[RawExample]:
    """First turns of OpenAssistant conversations, each with its best reply."""
    for record in _json_lines(path):
        yield RawExample("", record["instruction"].strip(), "", record["response"].strip())


def _poems(path: Path, source: Source) -> Iterator[RawExample]:
    """Poems with a title, asked for in wordings of our own."""
    for n, record in enumerate(_json_lines(path)):
        title, lines = record["title"].strip(), record["text"].strip()
        count = sum(bool(line.strip()) for line in lines.splitlines())
        yield RawExample(
            "", wordings.POEM[n % len(wordings.POEM)].format(title=title, count=count), "", lines
        )


def _jokes(path: Path, source: Source) -> Iterator[RawExample]:
    """One-line jokes, asked for in wordings of our own, some with the joke's subject."""
    for n, record in enumerate(_json_lines(path)):
        wording = wordings.JOKE[n % len(wordings.JOKE)]
        if "{tag}" in wording and not record["tags"]:
            wording = wordings.JOKE[0]
        tag = record["tags"][0] if record["tags"] else ""
        yield RawExample("", wording.format(tag=tag), "", record["text"].strip())


def _everyday(path: Path, source: Source) -> Iterator[RawExample]:
    """Rows in groups with wordings of their own; the file says how it is read."""
    for group in tomllib.loads(path.read_text(encoding="utf-8"))["group"]:
        task, own_wordings = group.get("task", ""), group.get("wordings", [])
        draw = random.Random(0)  # in turn, labels that alternate would each have their own wording
        for about, *rest in group["rows"]:
            if not own_wordings:
                yield RawExample(task, about, "".join(rest[:-1]), rest[-1])
                continue
            for wording in draw.sample(own_wordings, group.get("times", 1)):
                subject = "" if "{}" in wording else about
                instruction = wording.replace("{}", about)
                yield RawExample(task, instruction, subject, rest[-1], subject=about)


def _superni(path: Path, source: Source) -> Iterator[RawExample]:
    """Super-NaturalInstructions: a task on each line, with a definition and many instances."""
    for task in _json_lines(path):
        if task["task"].split("_")[0] in source.drop_tasks:
            continue
        definition = task["definition"][0].strip()
        for instance in task["instances"]:
            yield RawExample(
                task["task"], definition, instance["input"].strip(), instance["output"][0].strip()
            )


def _p3(path: Path, source: Source) -> Iterator[RawExample]:
    """P3: prompts in which people's templates are already filled."""
    for record in _json_lines(path):
        if record["dataset"] not in source.drop_tasks:
            prompt, completion = record["prompt"].strip(), record["completion"].strip()
            yield RawExample(f"p3: {record['dataset']}", prompt, "", completion)


def _creak(path: Path, source: Source) -> Iterator[RawExample]:
    """CREAK: claims, true or false, in wordings of our own with two labels each."""
    for n, (claim, truth) in enumerate(read_creak(path)):
        wording, true, false = wordings.CREAK[n % len(wordings.CREAK)]
        label = true if truth == "true" else false
        yield RawExample(f"creak: {wording}", wording, claim, label)


def _seed(path: Path, source: Source) -> Iterator[RawExample]:
    """The seed tasks of Self-Instruct, written by people."""
    for record in _json_lines(path):
        for instance in record["instances"]:
            yield RawExample(
                "",
                record["instruction"].strip(),
                instance["input"].strip(),
                instance["output"].strip(),
            )


_READERS: dict[str, Callable[[Path, Source], Iterator[RawExample]]] = {
    "clinc": _clinc,
    "contexts": _contexts,
    "creak": _creak,
    "dolly": _dolly,
    "everyday": _everyday,
    "jokes": _jokes,
    "oasst": _oasst,
    "p3": _p3,
    "passages": read_passages,
    "poems": _poems,
    "rows": read_rows,
    "seed": _seed,
    "superni": _superni,
}
