"""Measures what the adapters' model cards report, with the engine that also serves the page."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import regex

from models import (
    UNKNOWN_ID,
    Backend,
    Progress,
    ProgressCallback,
    Prompt,
    PromptError,
    Role,
    ScoreRequest,
    TokenScores,
    looped,
    read_clinc150,
    read_text,
)
from playground.comparison.batch import ask_all
from playground.comparison.compare import Answer
from playground.evaluation.metrics import paired_difference, wilson
from playground.evaluation.task import shipped_tasks
from playground.experiments.medquad import read_medquad
from playground.prompting.forms import make_prompt

INSTRUCTIONS = Path(__file__).parents[1] / "evaluation" / "tasks" / "instructions.toml"


def check(what: str, data: Path | None, limit: int) -> None:
    """Check what a measurement needs, by reading it, before the trio has loaded.

    Raises:
        PromptError: the data set is not in the folder or damaged, or the limit is out of range.
    """
    readers = {
        "intents": _utterances,
        "open": _open_prompts,
        "foreign": _open_prompts,
        "forgetting": _plain_texts,
    }
    if read := readers.get(what):  # instructions ship
        read(data, limit)


def intents(
    trio: Backend, data: Path | None, limit: int, on_progress: ProgressCallback
) -> dict[str, Any]:
    """Measure the accuracy of the task-tuned variant on CLINC150's test utterances.

    A limit of 300 takes every 15th of the 4,500 utterances, two of each intent. `exact` means that
    the whole answer is `domain / intent` and that it ended by itself.

    Raises:
        PromptError: the data set is not in the folder, or the limit is out of range.
    """
    chosen = _utterances(data, limit)
    prompts = [make_prompt("instruction", instruction=utterance) for utterance, _ in chosen]
    answers = _answers(trio, prompts, 24, "task", on_progress)
    items = []
    for (utterance, gold), answer in zip(chosen, answers, strict=True):
        items.append(
            {
                "text": utterance,
                "gold": gold,
                "answer": answer.text,
                "exact": answer.text == gold and answer.stopped == "eos",
                "domain": answer.text.split(" / ")[0] == gold.split(" / ")[0],
                "ended": answer.stopped == "eos",
            }
        )
    return _shares(items, ("exact", "domain", "ended"))


def instructions(
    trio: Backend, on_progress: ProgressCallback, role: Role = "instruct"
) -> dict[str, Any]:
    """Measure how often a variant follows 100 short instructions of ten kinds.

    `ended` means that the answer ended by itself within 128 tokens; `followed` also that the whole
    answer has the format that was asked for, by the item's regular expression; `right` also that it
    is not wrong, where several answers have the format and the item says which one is right
    (`only_right`). A poem or a list of fruits that has its form stays right.
    """
    table = tomllib.loads(INSTRUCTIONS.read_text(encoding="utf-8"))["item"]
    prompts = [
        make_prompt("instruction", instruction=item["instruction"], input=item.get("input", ""))
        for item in table
    ]
    items = []
    answers = _answers(trio, prompts, 128, role, on_progress)
    for item, answer in zip(table, answers, strict=True):
        ended, text = answer.stopped == "eos", answer.text.strip()
        followed = ended and _matches(item["format"], text)
        right = followed and _matches(item.get("only_right", item["format"]), text)
        judged = {"answer": answer.text, "ended": ended, "followed": followed, "right": right}
        items.append({**item, **judged})
    result = _shares(items, ("ended", "followed", "right"))
    for kind in dict.fromkeys(item["kind"] for item in items):
        of_kind = [item for item in items if item["kind"] == kind]
        for key in ("followed", "right"):
            result[f"{key}, {kind}"] = f"{sum(item[key] for item in of_kind)} of {len(of_kind)}"
    return result


def _matches(pattern: str, text: str) -> bool:
    return bool(regex.fullmatch(pattern, text, regex.S | regex.I))


def open_instructions(
    trio: Backend,
    data: Path | None,
    limit: int,
    on_progress: ProgressCallback,
    role: Role = "instruct",
) -> dict[str, Any]:
    """Measure how a variant's answers to open-ended instructions end, and how long they are.

    The prompts are those that people wrote for Self-Instruct; answers have at most 128 tokens.
    `looped` means that the answer goes round in circles, `ended` that it ended by itself. Words
    are compared with those of the references, as medians.

    Raises:
        PromptError: the prompts are not in the folder, or the limit is out of range.
    """
    asked = _open_prompts(data, limit)
    items: list[dict[str, Any]] = []
    answers = _answers(trio, [prompt for prompt, _ in asked], 128, role, on_progress)
    for (prompt, reference), answer in zip(asked, answers, strict=True):
        items.append(
            {
                "instruction": prompt.instruction,
                "input": prompt.input,
                "answer": answer.text,
                "looped": UNKNOWN_ID not in answer.ids and looped(answer.ids),
                "ended": answer.stopped == "eos",
                "words": len(answer.text.split()),
                "reference_words": len(reference.split()),
            }
        )
    result = _shares(items, ("looped", "ended"))
    for key in ("words", "reference_words"):
        result[f"median {key.replace('_', ' ')}"] = median(item[key] for item in items)
    return result


def off_task_format(
    trio: Backend, data: Path | None, limit: int, on_progress: ProgressCallback
) -> dict[str, Any]:
    """Measure how often the task-tuned variant answers other tasks in the format of its own task.

    The prompts are open-ended instructions that people wrote for Self-Instruct.

    Raises:
        PromptError: the prompts are not in the folder, or the limit is out of range.
    """
    prompts = [prompt for prompt, _ in _open_prompts(data, limit)]
    task_format = shipped_tasks()["domain"].answer_format
    answers = _answers(trio, prompts, 24, "task", on_progress)
    items = []
    for prompt, answer in zip(prompts, answers, strict=True):
        items.append(
            {
                "text": prompt.instruction,
                "answer": answer.text,
                "in its format": bool(regex.fullmatch(task_format, answer.text))
                and answer.stopped == "eos",
            }
        )
    return _shares(items, ("in its format",))


def plain_text_loss(
    trio: Backend, data: Path | None, limit: int, on_progress: ProgressCallback
) -> dict[str, Any]:
    """Measure the loss of each variant on plain text that none was tuned on: MedQuAD's answers.

    The difference from the base is paired over texts, with a bootstrap interval.

    Raises:
        PromptError: the data set is not in the folder, or the limit is out of range.
    """
    texts = _plain_texts(data, limit)
    means: dict[Role, list[float]] = {}
    tokens = 0
    for number, text in enumerate(texts, 1):
        *_, by_role = trio.score(ScoreRequest(Prompt(text), "same"))
        for role, scores in by_role.items():
            if not isinstance(scores, TokenScores):
                continue
            losses = [loss for loss in scores.losses if loss is not None]
            tokens += len(losses) if role == "base" else 0
            means.setdefault(role, []).append(sum(losses) / len(losses))
        on_progress(Progress("Plain-text loss", number / len(texts), len(texts)))
    result: dict[str, Any] = {"n": len(texts), "tokens": tokens, "items": []}
    for role, losses in means.items():
        result[role] = {
            "nats_per_token": sum(losses) / len(losses),
            "more_than_base": more_than_base(losses, means["base"]),
        }
    return result


def more_than_base(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the mean difference of paired values from the base's, with its 95 % interval."""
    difference = paired_difference([[value] for value in values], [[value] for value in base])
    return dict(zip(("value", "low", "high"), difference, strict=True))


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise PromptError(f"The limit is {limit}; it must be at least 1.")


def _utterances(data: Path | None, limit: int) -> list[tuple[str, str]]:
    """Return so many of CLINC150's test utterances, evenly spread, each with its label."""
    utterances = _clinc_test(data)
    if not 1 <= limit <= len(utterances):
        raise PromptError(f"The limit is {limit}; it must be from 1 to {len(utterances)}.")
    return utterances[:: max(1, len(utterances) // limit)][:limit]


def _open_prompts(data: Path | None, limit: int) -> list[tuple[Prompt, str]]:
    """Return the first of Self-Instruct's open-ended instructions, each with its reference."""
    _check_limit(limit)
    path = (data or Path()) / "instruct" / "user_oriented_instructions_252.jsonl"
    home = "github.com/yizhongw/self-instruct, human_eval"
    try:
        records = [json.loads(line) for line in read_text(path).splitlines()]
        prompts = [
            (
                make_prompt(
                    "instruction", instruction=record["instruction"], input=instance["input"]
                ),
                instance["output"],
            )
            for record in records[:limit]
            for instance in record["instances"][:1]
        ]
    except OSError as error:
        raise PromptError(f"The prompts are not at {path}. Their home is {home}.") from error
    except (ValueError, LookupError, TypeError) as error:
        raise PromptError(f"{path}: is damaged. Take it from {home} again.") from error
    if not prompts:
        raise PromptError(f"{path}: holds no prompt. Take it from its home again.")
    return prompts


def _plain_texts(data: Path | None, limit: int) -> list[str]:
    """Return so many of MedQuAD's longer answers, evenly spread."""
    _check_limit(limit)
    answers = [" ".join(record["answer"].split()) for record in read_medquad(data or Path())]
    texts = [text[:1500] for text in answers if len(text) >= 400]
    if not texts:
        raise PromptError("MedQuAD has no answer of 400 characters there. Take it from its home.")
    return texts[:: max(1, len(texts) // limit)][:limit]


def _answers(
    trio: Backend,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    role: Role,
    on_progress: ProgressCallback,
) -> Iterator[Answer]:
    """Yield one variant's answer to each prompt, in order, and report progress."""
    for number, answers in enumerate(ask_all(trio, prompts, max_new_tokens, roles=[role]), 1):
        on_progress(Progress("Answering", number / len(prompts), len(prompts)))
        yield answers[role]


def _shares(items: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the share of items for which each key is true, with its 95 % interval."""
    result: dict[str, Any] = {"n": len(items)}
    for key in keys:
        successes = sum(item[key] for item in items)
        low, high = wilson(successes, len(items))
        result[key] = {"value": successes / len(items), "low": low, "high": high}
    return {**result, "items": items}


def _clinc_test(data: Path | None) -> list[tuple[str, str]]:
    folder = (data or Path()) / "task" / "clinc150"
    try:
        return list(read_clinc150(folder / "data_full.json", "test"))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PromptError(
            f"CLINC150 is not in {folder}, or damaged. Name its folder's grandparent by --data. "
            "Its home is github.com/clinc/oos-eval, data/data_full.json and data/domains.json."
        ) from error
