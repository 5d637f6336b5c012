"""The medical exercise: what the same answers teach as text, as made rows, as people's questions.

Three adapters are tuned on the answers of MedQuAD, each for as many steps: on the answers as plain
text, on instruction rows that rules make of them, and on the questions that people asked. Diseases
are kept apart: none that is measured on was trained on. Not medical advice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import models
from models import (
    Backend,
    Layout,
    Pin,
    Progress,
    ProgressCallback,
    Prompt,
    PromptError,
    Reads,
    Role,
    Trio,
    Variant,
    Weights,
)
from playground.comparison.batch import ask_all
from playground.evaluation.metrics import paired_difference, rouge_l
from playground.experiments import model_cards
from playground.experiments.medquad import FILE, read_medquad
from playground.training_data.passages import MIN_WORDS, Passage, sentences
from playground.training_data.rules import GeneratedRow, RowKind, make_rows, write

ARMS: dict[str, Reads] = {"text": "text", "made": "chat", "questions": "chat"}
"""What the answers are made into, and how what was tuned on it is asked."""
HELD_OUT = 10
"""One disease in so many is measured on."""
MAX_WORDS = 120
"""Words of an answer: its first whole sentences."""
LAYOUT = Layout("Question", "Answer")
"""What text variants are asked in."""


@dataclass(frozen=True, slots=True)
class MedicalQuestion:
    """A question and the beginning of its answer."""

    question: str
    answer: str
    focus: str
    """The disease that it is about."""
    source: str

    @property
    def held_out(self) -> bool:
        """Whether its disease is kept apart."""
        digest = hashlib.sha256(self.focus.lower().encode()).digest()
        return digest[0] % HELD_OUT == 0


def read_items(data: Path) -> list[MedicalQuestion]:
    """Read MedQuAD's answered questions; of equal answers the first one counts.

    Raises:
        PromptError: the data set is not in the folder.
    """
    questions: dict[str, MedicalQuestion] = {}
    for number, record in enumerate(read_medquad(data), 1):
        answer = _beginning(record["answer"])
        if len(answer.split()) >= MIN_WORDS:
            question = " ".join(record["question"].split()).replace(" ?", "?")
            source = f"{FILE.name}:{number}"
            questions.setdefault(answer, MedicalQuestion(question, answer, record["focus"], source))
    return list(questions.values())


def _beginning(answer: str) -> str:
    kept: list[str] = []
    for sentence in sentences(" ".join(answer.split())):
        if len(" ".join([*kept, sentence]).split()) > MAX_WORDS:
            break
        kept.append(sentence)
    return " ".join(kept)


def split(items: Sequence[MedicalQuestion]) -> tuple[list[MedicalQuestion], list[MedicalQuestion]]:
    """Return what is trained on, and what is measured on: of other diseases, in other words."""
    train = [one for one in items if not one.held_out]
    known = set().union(*(models.phrases(one.answer) for one in train))
    held = [one for one in items if one.held_out and known.isdisjoint(models.phrases(one.answer))]
    return train, held


def prepare(train: Sequence[MedicalQuestion], out: Path) -> None:
    """Write the training rows of all three arms, made of the same answers."""
    out.mkdir(parents=True, exist_ok=True)
    passages = [Passage(one.answer, one.focus, one.source) for one in train]
    kinds: dict[str, RowKind] = {"passages": "text", "made": "instruction"}
    for name, kind in kinds.items():
        rows, _ = make_rows(passages, kind)
        write((row.record(kind) for row in rows), out / f"{name}.jsonl")
    asked = [
        GeneratedRow(one.question, "", one.answer, one.source, "asked by people") for one in train
    ]
    write((row.record("instruction") for row in asked), out / "questions.jsonl")


def exercise(data: Path, out: Path, limit: int, on_progress: ProgressCallback) -> dict[str, Any]:
    """Tune the three adapters in `out`, go on where an earlier run ended, and measure all.

    Args:
        data: folder of the data sets.
        out: where rows and adapters are kept.
        limit: held-out items to measure on.
        on_progress: called with the step under way and the share of it that is done.

    Returns:
        The table: loss on held-out answers as plain text, loss and ROUGE-L of the answers to their
        questions, and instruction following, for the base and each adapter.

    Raises:
        ModelError: the data cannot be had, or a run fails.
    """
    train, held = split(read_items(data))
    if not 1 <= limit <= len(held):
        raise PromptError(f"The limit is {limit}; it must be from 1 to {len(held)}.")
    prepare(train, out / "data")
    for arm in ARMS:
        if not (out / arm / "adapter_model.safetensors").is_file():
            for step in models.tune(f"medical-{arm}", out / "data", out / arm):
                text = f"Tuning on {arm}, loss {step.loss:.2f}"
                on_progress(Progress(text, step.step / step.steps))
    held = held[:: len(held) // limit][:limit]
    measured: dict[str, dict[str, list[float]]] = {}
    for pair in (("text", "made"), ("text", "questions")):
        with closing(models.open_backend(_trio(out, *pair))) as trio:
            arms: dict[Role, str] = {"base": "base", "task": pair[0], "instruct": pair[1]}
            for role, arm in arms.items():
                if arm not in measured:
                    measured[arm] = dict(_measured(trio, role, arm, held, on_progress))
    return {
        "not": "medical advice",
        "n": len(held),
        "rows": [_row(arm, each, measured["base"]) for arm, each in measured.items()],
    }


def _row(arm: str, each: dict[str, list[float]], base: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"tuned on": arm}
    for name, values in each.items():
        value, low, high = paired_difference([[v] for v in values], [[v] for v in base[name]])
        row[name] = {
            "value": sum(values) / len(values),
            "more_than_base": {"value": value, "low": low, "high": high},
        }
    return row


def _measured(
    trio: Backend,
    role: Role,
    arm: str,
    held: Sequence[MedicalQuestion],
    on_progress: ProgressCallback,
) -> Iterator[tuple[str, list[float]]]:
    reads = ARMS.get(arm, "text")
    asked = [
        Prompt(one.question) if reads == "chat" else Prompt("", one.question, layout=LAYOUT)
        for one in held
    ]

    def losses(what: str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        found = []
        for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            on_progress(Progress(f"{what}, {arm}", n / len(prompts)))
            sent = trio.sent(prompt, "own")[role].ids
            ids = [piece.id for piece in trio.completion(prompt, answer)[role]]
            *_, read = trio.read({role: [*sent, *ids]})
            losses = [one.loss for one in read[role][len(sent) - 1 : -1]]
            found.append(sum(one for one in losses if one is not None) / len(ids))
        return found

    def plain() -> list[float]:
        found = []
        for n, one in enumerate(held):
            on_progress(Progress(f"Loss on plain text, {arm}", n / len(held)))
            *_, read = trio.read({role: trio.sent(Prompt(one.answer), "same")[role].ids})
            losses = [after.loss for after in read[role] if after.loss is not None]
            found.append(sum(losses) / len(losses))
        return found

    yield "loss on plain text, nats a token", plain()
    answers = [one.answer for one in held]
    yield "loss of the answer after its question", losses("Loss of answers", asked, answers)
    rouge = []
    for n, said in enumerate(ask_all(trio, asked, 128, roles=[role])):
        on_progress(Progress(f"Answering, {arm}", n / len(asked)))
        rouge.append(rouge_l(said[role].text, answers[n]))
    yield "answering, ROUGE-L", rouge
    followed = model_cards.instructions(
        trio,
        lambda progress: on_progress(Progress(f"Following, {arm}", progress.done)),
        role,
    )
    yield "followed instructions", [float(item["followed"]) for item in followed["items"]]


def _trio(out: Path, task: str, instruct: str) -> Trio:
    base = models.find_trio().variants[0]
    arms: dict[Role, str] = {"task": task, "instruct": instruct}
    tuned = tuple(
        Variant(
            role,
            arm,
            Weights(base.weights.base, Pin(str((out / arm).resolve()))),
            ARMS[arm],
        )
        for role, arm in arms.items()
    )
    return replace(models.find_trio(), name="medical", variants=(base, *tuned))
