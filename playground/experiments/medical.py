"""The medical experiment: tunes three adapters on the same medical answers, and compares them.

The answers are MedQuAD's. One adapter is tuned on them as plain text, one on instruction rows that
rules make of them, and one on people's questions with these answers; all for the same number of
steps. No disease of the held-out questions is in the training rows. Not medical advice.
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
    Prompt,
    PromptError,
    Reads,
    Role,
    ScoreRequest,
    TokenScores,
    Trio,
    Variant,
    Weights,
)
from playground.comparison.batch import ask_all
from playground.evaluation.metrics import rouge_l
from playground.experiments import model_cards
from playground.experiments.medquad import FILE, read_medquad
from playground.training_data.passages import MIN_WORDS, Passage, sentences
from playground.training_data.rules import GeneratedRow, RowKind, make_rows, write

ARMS: dict[str, Reads] = {"text": "text", "made": "chat", "questions": "chat"}
"""Kinds of training rows, each with the format of the prompts to its adapter."""
HELD_OUT = 10
"""About one disease in this many is held out."""
MAX_WORDS = 120
"""An answer is cut after the last whole sentence within this many words."""
LAYOUT = Layout("Question", "Answer")
"""Layout of the prompts to variants that read plain text."""


@dataclass(frozen=True, slots=True)
class MedicalQuestion:
    """A medical question, and the beginning of its answer."""

    question: str
    answer: str
    focus: str
    """The disease that the question is about."""
    source: str
    """File name and line."""

    @property
    def held_out(self) -> bool:
        """Whether its disease is held out."""
        digest = hashlib.sha256(self.focus.lower().encode()).digest()
        return digest[0] % HELD_OUT == 0


def read_items(data: Path) -> list[MedicalQuestion]:
    """Read MedQuAD's questions with answers; of questions with the same answer, only the first.

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
    beginning: list[str] = []
    for sentence in sentences(" ".join(answer.split())):
        if len(" ".join([*beginning, sentence]).split()) > MAX_WORDS:
            break
        beginning.append(sentence)
    return " ".join(beginning)


def split(items: Sequence[MedicalQuestion]) -> tuple[list[MedicalQuestion], list[MedicalQuestion]]:
    """Split into training and held-out questions, which share no disease and no phrase."""
    train = [question for question in items if not question.held_out]
    known = set().union(*(models.phrases(question.answer) for question in train))
    held_out = [
        question for question in items
        if question.held_out and known.isdisjoint(models.phrases(question.answer))
    ]  # fmt: skip
    return train, held_out


def prepare(train: Sequence[MedicalQuestion], out: Path) -> None:
    """Write the training rows of all three arms, made from the same answers.

    Raises:
        PromptError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PromptError(f"{out}: cannot be written: {error}. Name another folder.") from error
    passages = [Passage(question.answer, question.focus, question.source) for question in train]
    kinds: dict[str, RowKind] = {"passages": "text", "made": "instruction"}
    for name, kind in kinds.items():
        rows, _ = make_rows(passages, kind)
        write((row.record(kind) for row in rows), out / f"{name}.jsonl")
    question_rows = [
        GeneratedRow(question.question, "", question.answer, question.source, "asked by people")
        for question in train
    ]
    write((row.record("instruction") for row in question_rows), out / "questions.jsonl")


def exercise(
    data: Path, out: Path, limit: int, on_progress: models.ProgressCallback
) -> dict[str, Any]:
    """Tune three adapters and measure them; an interrupted run resumes from its checkpoint.

    Args:
        data: folder of the data sets.
        out: folder for rows and adapters.
        limit: number of held-out questions to measure on.
        on_progress: called with the current step and the share of it that is done.

    Returns:
        The result table, with a row for the base and each adapter: loss on held-out answers as
        plain text, loss of answers after their questions, ROUGE-L of the variant's own answers,
        and instruction following.

    Raises:
        ModelError: the data set is not in the folder, the limit is out of range, or training or
            measuring fails.
    """
    train, held_out = split(read_items(data))
    if not 1 <= limit <= len(held_out):
        raise PromptError(f"The limit is {limit}; it must be from 1 to {len(held_out)}.")
    prepare(train, out / "data")
    for arm in ARMS:
        if not (out / arm / "adapter_model.safetensors").is_file():
            for step in models.tune(f"medical-{arm}", out / "data", out / arm):
                on_progress(models.Progress(f"Tuning on {arm}, {step}", step.done / step.total))
    held_out = held_out[:: len(held_out) // limit][:limit]
    measured: dict[str, dict[str, list[float]]] = {}
    for pair in (("text", "made"), ("text", "questions")):
        with closing(models.open_backend(_trio(out, *pair))) as trio:
            arms: dict[Role, str] = {"base": "base", "task": pair[0], "instruct": pair[1]}
            for role, arm in arms.items():
                if arm not in measured:
                    measured[arm] = dict(_measured(trio, role, arm, held_out, on_progress))
    return {
        "not": "medical advice",
        "n": len(held_out),
        "rows": [_row(arm, figures, measured["base"]) for arm, figures in measured.items()],
    }


def _row(arm: str, figures: dict[str, list[float]], base: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"tuned on": arm}
    for name, values in figures.items():
        row[name] = {
            "value": sum(values) / len(values),
            "more_than_base": model_cards.more_than_base(values, base[name]),
        }
    return row


def _measured(
    trio: Backend,
    role: Role,
    arm: str,
    held_out: Sequence[MedicalQuestion],
    on_progress: models.ProgressCallback,
) -> Iterator[tuple[str, list[float]]]:
    """Yield each figure's name and values: one per held-out question, or per instruction."""
    questions = [question.question for question in held_out]
    prompts = [Prompt("", question, layout=LAYOUT) for question in questions]
    if ARMS.get(arm) == "chat":
        prompts = [Prompt(question) for question in questions]

    def report(what: str, done: float) -> None:
        on_progress(models.Progress(f"{what}, {arm}", done))

    def losses(what: str, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        means = []
        for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            report(what, n / len(prompts))
            pieces = trio.encoders[role].completion(trio.encode(prompt)[role], answer)
            scores = _scores(trio, ScoreRequest(prompt, "own", {role: pieces}, roles=[role]))
            losses = scores.losses[scores.prompt_tokens :]
            means.append(sum(loss for loss in losses if loss is not None) / len(pieces))
        return means

    def plain() -> list[float]:
        means = []
        for n, question in enumerate(held_out):
            report("Loss on plain text", n / len(held_out))
            scores = _scores(trio, ScoreRequest(Prompt(question.answer), "same", roles=[role]))
            losses = [loss for loss in scores.losses if loss is not None]
            means.append(sum(losses) / len(losses))
        return means

    yield "loss on plain text, nats a token", plain()
    answers = [question.answer for question in held_out]
    yield "loss of the answer after its question", losses("Loss of answers", prompts, answers)
    rouge = []
    for n, reply in enumerate(ask_all(trio, prompts, 128, roles=[role])):
        report("Answering", n / len(prompts))
        rouge.append(rouge_l(reply[role].text, answers[n]))
    yield "answering, ROUGE-L", rouge
    followed = model_cards.instructions(
        trio, lambda progress: report("Following", progress.done), role
    )
    yield "followed instructions", [float(item["followed"]) for item in followed["items"]]


def _scores(trio: Backend, request: ScoreRequest) -> TokenScores:
    """Return the scores of the only variant in a request, which must have local weights."""
    *_, by_role = trio.score(request)
    (scores,) = by_role.values()
    assert isinstance(scores, TokenScores)
    return scores


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
