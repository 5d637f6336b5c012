"""Raw texts → training rows: plain text, input → output pairs, or instruction rows.

The rules need no model: each reads an answer off the passage and asks for it. (The idea of turning
raw text into reading tasks is AdaptLLM's, 2309.09530; the rules and their wordings are our own.)
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models import Backend, PromptError, Role
from playground.comparison.batch import ask_all
from playground.evaluation.atomic_write import write_whole
from playground.evaluation.metrics import rouge_l
from playground.prompting.forms import make_prompt
from playground.training_data.passages import MAX_WORDS, Passage, sentences, words_of

RowKind = Literal["text", "task", "instruction"]
KINDS: tuple[RowKind, ...] = ("text", "task", "instruction")
GROUNDED = 0.6
"""Share of an answer's words that must stand in its passage."""
_WORDINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ALIKE = 0.7
"""ROUGE-L from which two rows of one rule ask the same."""


@dataclass(frozen=True, slots=True)
class GeneratedRow:
    """One training row, and how it came about."""

    instruction: str
    input: str
    output: str
    source: str
    method: str

    def record(self, kind: RowKind) -> dict[str, str]:
        """Return the row as a line of the output holds it."""
        fields = {
            "text": {"text": self.output},
            "task": {"input": self.input, "output": self.output},
            "instruction": {
                "instruction": self.instruction,
                "input": self.input,
                "output": self.output,
            },
        }
        return {**fields[kind], "source": self.source, "method": self.method}


def make_rows(
    passages: Sequence[Passage], kind: RowKind, rules: Sequence[str] = (), seed: int = 0
) -> tuple[list[GeneratedRow], Counter[str]]:
    """Make training rows of passages.

    Args:
        passages: from `read_passages`.
        kind: of the rows.
        rules: names of the rules to use; all, if none are given. Of task rows there is one rule,
            for a task is one thing.
        seed: of the choice among wordings.

    Returns:
        The rows, and how many were left out for which reason.

    Raises:
        PromptError: there is no such rule.
    """
    if unknown := [name for name in rules if name not in RULES]:
        raise PromptError(f"There is no rule {unknown[0]!r}. There are: {', '.join(RULES)}.")
    if kind == "text":
        return [
            GeneratedRow("", "", one.text, one.source, "passage") for one in passages
        ], Counter()
    if kind == "task" and len(rules) > 1:
        raise PromptError("Rows of a task are made by one rule; name one of them.")
    chosen = rules or (["question"] if kind == "task" else list(RULES))
    draw = random.Random(seed)
    rare = Counter(word for one in passages for word in set(words_of(one.text)))
    made = [
        (passage, row)
        for passage in passages
        for name in chosen
        for row in RULES[name](passage, rare, draw)
    ]
    return kept(made)


def ask_rows(
    trio: Backend, passages: Sequence[Passage], role: Role = "instruct"
) -> tuple[list[GeneratedRow], Counter[str]]:
    """Have a variant ask a question about each passage, and answer it; what is not grounded goes.

    Args:
        trio: what writes; the better it is, the more is left.
        passages: from `read_passages`.
        role: which of its variants writes.

    Raises:
        PromptError: a passage is too long for its context.
    """
    asks = [
        make_prompt("instruction", instruction=_ASK, input=passage.text) for passage in passages
    ]
    said = [one[role].text for one in ask_all(trio, asks, 48, roles=[role])]
    pairs = [
        (passage, line)
        for passage, text in zip(passages, said, strict=True)
        if (line := text.strip().partition("\n")[0]).endswith("?")
    ]
    answers = [make_prompt("instruction", instruction=q, input=one.text) for one, q in pairs]
    made = [
        (
            passage,
            GeneratedRow(q, passage.text, one[role].text.strip(), passage.source, f"asked {role}"),
        )
        for (passage, q), one in zip(pairs, ask_all(trio, answers, 128, roles=[role]), strict=True)
    ]
    good, dropped = kept(made)
    if unasked := len(passages) - len(pairs):
        dropped["no question"] = unasked
    return good, dropped


_ASK = "Write one question that this text answers."


def kept(rows: Iterable[tuple[Passage, GeneratedRow]]) -> tuple[list[GeneratedRow], Counter[str]]:
    """Leave out rows that their passage does not answer, that are too long, or that come again."""
    good: list[GeneratedRow] = []
    dropped: Counter[str] = Counter()
    for passage, row in rows:
        words = words_of(row.output)
        known = set(words_of(f"{passage.text} {passage.heading}")) | _OWN_WORDS
        if not words or len(words) > MAX_WORDS:
            dropped["empty or too long"] += 1
        elif sum(word in known for word in words) < GROUNDED * len(words):
            dropped["not in its passage"] += 1
        elif any(_same(row, other) for other in good[-200:]):
            dropped["asks what another asks"] += 1
        else:
            good.append(row)
    return good, dropped


def write(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines, all at once.

    Raises:
        PromptError: the file cannot be written; it is as it was.
    """
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    write_whole(path, "".join(f"{line}\n" for line in lines))


_OWN_WORDS = {"yes", "no"}


def _same(row: GeneratedRow, other: GeneratedRow) -> bool:
    if row.method != other.method or row.output != other.output:
        return False
    return rouge_l(f"{row.instruction} {row.input}", f"{other.instruction} {other.input}") >= ALIKE


Rule = Callable[[Passage, Counter[str], random.Random], Iterator[GeneratedRow]]


def _title(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """The heading is the title."""
    if passage.heading:
        asks = draw.choice(_WORDINGS["title"])
        yield GeneratedRow(asks, passage.text, passage.heading, passage.source, "title")


def _question(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """A sentence that says what something is answers the question what it is."""
    for line in sentences(passage.text):
        sentence = line.partition(" - ")[0]
        match = re.match(r"((?:An?|The)\s+)?([A-Za-z][\w' -]{2,60}?) (is|are) (an?|the) ", sentence)
        if match and len(match[2].split()) <= 5 and _NO_NAMES.isdisjoint(words_of(match[2])):
            subject = f"{(match[1] or '').lower()}{match[2]}"
            yield GeneratedRow(
                draw.choice(_WORDINGS["question"]).format(verb=match[3], subject=subject),
                passage.text,
                sentence,
                passage.source,
                "question",
            )


def _list(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """What follows a colon between commas is a list of what stands before it."""
    for sentence in sentences(passage.text):
        head, _, rest = sentence.partition(": ")
        between = r"\s+- " if " - " in rest else r",\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+(?=[^,]*$)"
        items = [one.strip(" .") for one in re.split(between, rest.removeprefix("- "))]
        if 3 <= len(items) <= 12 and 2 <= len(head.split()) <= 16 and all(items):
            lines = "\n".join(f"- {item}" for item in items)
            asks = draw.choice(_WORDINGS["list"]).format(head=head[0].lower() + head[1:])
            yield GeneratedRow(asks, passage.text, lines, passage.source, "list")


def _summary(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """The first sentence says what a paragraph is about."""
    first, *others = sentences(passage.text)
    if len(others) >= 2 and 6 <= len(first.split()) <= 40:
        yield GeneratedRow(
            draw.choice(_WORDINGS["summary"]), " ".join(others), first, passage.source, "summary"
        )


def _cloze(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """The word that the fewest passages have is the one to know."""
    sentence = draw.choice(sentences(passage.text))
    words = [word for word in re.findall(r"[A-Za-z]{5,}", sentence) if word in passage.text]
    if len(sentence.split()) >= 8 and words:
        word = min(words, key=lambda one: (rare[one.lower()], -len(one)))
        gap = re.sub(rf"\b{word}\b", "____", sentence, count=1)
        rest = passage.text.replace(sentence, "").strip()
        yield GeneratedRow(
            draw.choice(_WORDINGS["cloze"]), f"{rest}\n{gap}".strip(), word, passage.source, "cloze"
        )


def _order(passage: Passage, rare: Counter[str], draw: random.Random) -> Iterator[GeneratedRow]:
    """Two sentences, as they stand or turned round; of one passage in three, for all have them."""
    said = sentences(passage.text)
    if len(said) >= 3 and draw.random() < 1 / 3:
        at = draw.randrange(len(said) - 1)
        pair = said[at : at + 2]
        turned = draw.random() < 0.5
        shown = " ".join(reversed(pair) if turned else pair)
        answer = "no" if turned else "yes"
        yield GeneratedRow(draw.choice(_WORDINGS["order"]), shown, answer, passage.source, "order")


RULES: dict[str, Rule] = {
    "title": _title,
    "question": _question,
    "list": _list,
    "summary": _summary,
    "cloze": _cloze,
    "order": _order,
}
_NO_NAMES = frozenset(
    "it this that there these those they he she here what which who if when will would can may "  # noqa: SIM905
    "might must should has have had do does not and or but one some".split()
)
"""Words that no name of a thing has: a sentence that has one before its verb defines nothing."""
