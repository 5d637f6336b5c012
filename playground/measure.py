"""What the adapters' model cards report, measured through the same engine that answers people."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import Backend, PromptError
from playground.asking import ask_all
from playground.forms import make_prompt
from playground.score import wilson

INSTRUCTIONS = Path(__file__).parent / "tasks" / "instructions.toml"
Told = Callable[[int, int], None]


def intents(trio: Backend, data: Path | None, limit: int, told: Told) -> dict[str, Any]:
    """Ask the task-tuned variant for the intents of CLINC150's test utterances.

    Every 15th of the 4,500 makes 300, two of each intent. Exact means the whole answer, `domain /
    intent`, and that it ended by itself.

    Raises:
        PromptError: the data set is not in the folder, or the limit is none.
    """
    utterances = _clinc_test(data)
    if not 1 <= limit <= len(utterances):
        raise PromptError(f"The limit is {limit}; it must be from 1 to {len(utterances)}.")
    step = max(1, len(utterances) // limit)
    chosen = utterances[::step][:limit]
    prompts = [make_prompt("instruction", instruction=utterance) for utterance, _ in chosen]
    items = []
    asked = ask_all(trio, prompts, 24, roles=["task"])
    for number, ((utterance, gold), said) in enumerate(zip(chosen, asked, strict=True)):
        told(number, limit)
        answer = said["task"]
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


def instructions(trio: Backend, told: Told) -> dict[str, Any]:
    """Give the instruction-tuned variant 60 short instructions of six kinds.

    `ended` is by itself within 128 tokens; `followed` is that, and the whole answer has the format
    that was asked, as the item's regular expression says. It does not say that the answer is true.
    """
    table = tomllib.loads(INSTRUCTIONS.read_text(encoding="utf-8"))["item"]
    prompts = [
        make_prompt("instruction", instruction=item["instruction"], input=item.get("input", ""))
        for item in table
    ]
    items = []
    asked = ask_all(trio, prompts, 128, roles=["instruct"])
    for number, (item, said) in enumerate(zip(table, asked, strict=True)):
        told(number, len(table))
        answer = said["instruct"]
        ended = answer.stopped == "eos"
        followed = re.fullmatch(item["format"], answer.text.strip(), re.DOTALL | re.IGNORECASE)
        items.append(
            {**item, "answer": answer.text, "ended": ended, "followed": ended and bool(followed)}
        )
    result = _shares(items, ("ended", "followed"))
    for kind in dict.fromkeys(item["kind"] for item in items):
        of_kind = [item["followed"] for item in items if item["kind"] == kind]
        result[f"followed, {kind}"] = f"{sum(of_kind)} of {len(of_kind)}"
    return result


def _shares(items: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {"n": len(items)}
    for key in keys:
        successes = sum(item[key] for item in items)
        low, high = wilson(successes, len(items))
        result[key] = {"value": successes / len(items), "low": low, "high": high}
    return {**result, "items": items}


def _clinc_test(data: Path | None) -> list[tuple[str, str]]:
    folder = (data or Path()) / "task" / "clinc150"
    try:
        rows = json.loads((folder / "data_full.json").read_text(encoding="utf-8"))["test"]
        domains = json.loads((folder / "domains.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(
            f"CLINC150 is not in {folder}. Name its folder's grandparent by --data; its home is "
            "github.com/clinc/oos-eval, data/data_full.json and data/domains.json."
        ) from error
    domain_of = {intent: domain for domain, intents in domains.items() for intent in intents}
    return [
        (text.strip(), f"{domain_of[intent]} / {intent}".replace("_", " ")) for text, intent in rows
    ]
