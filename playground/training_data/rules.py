"""Makes training rows of passages: plain text, pairs of input and output, or instruction rows.

The rules need no model: each finds an answer in the passage and writes a question for it. (The idea
of turning raw text into reading tasks is AdaptLLM's, 2309.09530; the rules and wordings are ours.)
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
from playground.comparison.words import words_of
from playground.evaluation.atomic_write import write_whole
from playground.evaluation.metrics import rouge_l
from playground.prompting.forms import make_prompt
from playground.training_data.passages import MAX_WORDS, Passage, sentences

RowKind = Literal["text", "task", "instruction"]
KINDS: tuple[RowKind, ...] = ("text", "task", "instruction")
GROUNDED = 0.6
"""Least share of an output's words that must be in its passage."""
_WORDINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ALIKE = 0.7
"""Least ROUGE-L at which two prompts with the same output count as duplicates."""


@dataclass(frozen=True, slots=True)
class GeneratedRow:
    """One training row, with its source and the method that made it."""

    instruction: str
    input: str
    output: str
    source: str
    method: str

    def record(self, kind: RowKind) -> dict[str, str]:
        """Return the row as JSON-ready values, with the fields of its kind."""
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
    """Make training rows of passages by rules.

    Args:
        passages: from `read_passages`.
        kind: kind of the rows.
        rules: names of the rules; if there are none, all rules, or "question" alone for task rows,
            which are all made by one rule.
        seed: seed of the choice among wordings.

    Returns:
        The rows, and the number of rows left out for each reason.

    Raises:
        PromptError: a rule is unknown, or several are named for task rows.
    """
    if unknown := [name for name in rules if name not in RULES]:
        raise PromptError(f"There is no rule {unknown[0]!r}. There are: {', '.join(RULES)}.")
    if kind == "text":
        rows = [
            GeneratedRow("", "", passage.text, passage.source, "passage") for passage in passages
        ]
        return rows, Counter()
    if kind == "task" and len(rules) > 1:
        raise PromptError("Rows of a task are made by one rule; name one of them.")
    chosen = rules or (["question"] if kind == "task" else list(RULES))
    draw = random.Random(seed)
    word_counts = Counter(word for passage in passages for word in set(words_of(passage.text)))
    pairs = [
        (passage, GeneratedRow(*texts, passage.source, name))
        for passage in passages
        for name in chosen
        for texts in RULES[name](passage, word_counts, draw)
    ]
    return kept(pairs)


def ask_rows(
    trio: Backend, passages: Sequence[Passage], role: Role = "instruct"
) -> tuple[list[GeneratedRow], Counter[str]]:
    """Have a variant write a question about each passage and answer it; leave out bad rows.

    Args:
        trio: the trio whose variant writes.
        passages: from `read_passages`.
        role: the variant that writes.

    Returns:
        The rows, and the number of rows left out for each reason.

    Raises:
        PromptError: a passage is too long for the variant's context.
    """
    prompts = [
        make_prompt("instruction", instruction=_ASK, input=passage.text) for passage in passages
    ]
    replies = [reply[role].text for reply in ask_all(trio, prompts, 48, roles=[role])]
    questions = [
        (passage, line)
        for passage, text in zip(passages, replies, strict=True)
        if (line := text.strip().partition("\n")[0]).endswith("?")
    ]
    prompts = [
        make_prompt("instruction", instruction=question, input=passage.text)
        for passage, question in questions
    ]
    answers = [reply[role].text.strip() for reply in ask_all(trio, prompts, 128, roles=[role])]
    rows, dropped = kept(
        (passage, GeneratedRow(question, passage.text, answer, passage.source, f"asked {role}"))
        for (passage, question), answer in zip(questions, answers, strict=True)
    )
    if unasked := len(passages) - len(questions):
        dropped["no question"] = unasked
    return rows, dropped


_ASK = "Write one question that this text answers."


def kept(rows: Iterable[tuple[Passage, GeneratedRow]]) -> tuple[list[GeneratedRow], Counter[str]]:
    """Filter rows; return the good ones, and the number of rows left out for each reason.

    Rows are left out if the output is empty, too long or not grounded in the passage (`GROUNDED`),
    and as duplicates of an earlier row (`ALIKE`).
    """
    good: list[GeneratedRow] = []
    dropped: Counter[str] = Counter()
    for passage, row in rows:
        words = words_of(row.output)
        known = set(words_of(f"{passage.text} {passage.heading}")) | _OWN_WORDS
        if not words or len(words) > MAX_WORDS:
            dropped["empty or too long"] += 1
        elif sum(word in known for word in words) < GROUNDED * len(words):
            dropped["not in its passage"] += 1
        elif any(_same(row, earlier) for earlier in good[-200:]):
            dropped["asks what another asks"] += 1
        else:
            good.append(row)
    return good, dropped


def write(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as a file of JSON lines.

    Raises:
        PromptError: the file cannot be written; its earlier content is kept.
    """
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    write_whole(path, "".join(f"{line}\n" for line in lines))


_OWN_WORDS = {"yes", "no"}
"""Words of outputs that need not be in the passage."""


def _same(row: GeneratedRow, earlier: GeneratedRow) -> bool:
    if row.method != earlier.method or row.output != earlier.output:
        return False
    prompts = [f"{either.instruction} {either.input}" for either in (row, earlier)]
    return rouge_l(*prompts) >= ALIKE


WordCounts = Counter[str]
"""Number of passages that contain each word."""
Texts = tuple[str, str, str]
"""Instruction, input and output."""
Rule = Callable[[Passage, WordCounts, random.Random], Iterator[Texts]]


def _title(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask for a title; the answer is the heading."""
    if passage.heading:
        yield draw.choice(_WORDINGS["title"]), passage.text, passage.heading


def _question(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask what something is; the answer is a sentence that defines it."""
    for line in sentences(passage.text):
        sentence = line.partition(" - ")[0]
        match = re.match(r"((?:An?|The)\s+)?([A-Za-z][\w' -]{2,60}?) (is|are) (an?|the) ", sentence)
        if match and len(match[2].split()) <= 5 and _NO_NAMES.isdisjoint(words_of(match[2])):
            subject = f"{(match[1] or '').lower()}{match[2]}"
            wording = draw.choice(_WORDINGS["question"])
            yield wording.format(verb=match[3], subject=subject), passage.text, sentence


def _list(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask for a list of what is named before a colon; the answer is the items after it."""
    for sentence in sentences(passage.text):
        head, _, rest = sentence.partition(": ")
        commas = r",\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+(?=[^,]*$)"
        separator = r"\s+- " if " - " in rest else commas
        items = [item.strip(" .") for item in re.split(separator, rest.removeprefix("- "))]
        if 3 <= len(items) <= 12 and 2 <= len(head.split()) <= 16 and all(items):
            lines = "\n".join(f"- {item}" for item in items)
            instruction = draw.choice(_WORDINGS["list"]).format(head=head[0].lower() + head[1:])
            yield instruction, passage.text, lines


def _summary(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask for a summary of all sentences but the first; the answer is the first."""
    first, *rest = sentences(passage.text)
    if len(rest) >= 2 and 6 <= len(first.split()) <= 40:
        yield draw.choice(_WORDINGS["summary"]), " ".join(rest), first


def _cloze(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask for a word left out of a sentence: the word that occurs in the fewest passages."""
    sentence = draw.choice(sentences(passage.text))
    words = [word for word in re.findall(r"[A-Za-z]{5,}", sentence) if word in passage.text]
    if len(sentence.split()) >= 8 and words:
        word = min(words, key=lambda word: (counts[word.lower()], -len(word)))
        gap = re.sub(rf"\b{word}\b", "____", sentence, count=1)
        rest = passage.text.replace(sentence, "").strip()
        yield draw.choice(_WORDINGS["cloze"]), f"{rest}\n{gap}".strip(), word


def _order(passage: Passage, counts: WordCounts, draw: random.Random) -> Iterator[Texts]:
    """Ask whether two sentences are in the right order; for about one passage in three."""
    all_sentences = sentences(passage.text)
    if len(all_sentences) >= 3 and draw.random() < 1 / 3:
        at = draw.randrange(len(all_sentences) - 1)
        pair = all_sentences[at : at + 2]
        reversed_order = draw.random() < 0.5
        text = " ".join(reversed(pair) if reversed_order else pair)
        answer = "no" if reversed_order else "yes"
        yield draw.choice(_WORDINGS["order"]), text, answer


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
"""Words that occur in no term: a sentence with one of them before its verb is no definition."""
