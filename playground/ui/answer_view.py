"""Values → what the page shows: plain dicts and strings. Imports no Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models import (
    EncodedPrompt,
    Format,
    HeadGate,
    Layout,
    Memory,
    ModelInfo,
    Progress,
    Prompt,
    Role,
    StopReason,
    Trio,
)
from playground.comparison.compare import Answer, Answers
from playground.comparison.records import added, digest, same_weights
from playground.prompting.lint import lint

ROLE_TITLES: dict[Role, str] = {
    "base": "Base",
    "task": "Task-tuned",
    "instruct": "Instruction-tuned",
}
ROLE_LESSONS: dict[Role, str] = {
    "base": "continues the text",
    "task": "does the one task it was tuned for",
    "instruct": "reads the task from the prompt",
}
STOPPED: dict[StopReason, str] = {
    "eos": "ended by itself",
    "stop": "cut at the stop text",
    "length": "hit the length limit",
    "cancelled": "stopped by you",
    "deadline": "hit the time limit",
    "error": "failed",
}


def packed_prompts(answers: Answers) -> dict[Role, str]:
    """Return what each variant was sent, packed; the prompts stay the same as answers grow."""
    base = answers["base"].sent if "base" in answers else None
    return {role: packed(sent(answer.sent, base)) for role, answer in answers.items()}


def panes(answers: Answers, packed_prompts: Mapping[Role, str]) -> dict[str, Any]:
    """Return what the columns show."""
    same = same_weights({role: answer.weights for role, answer in answers.items()})
    return {
        role: {
            **pane(answer),
            "sent": packed_prompts[role],
            "same": f"The same weights as {' and '.join(ROLE_TITLES[r] for r in same[role])}: "
            "equal fingerprints. What differs is the prompt alone."
            if same[role]
            else "",
        }
        for role, answer in answers.items()
    }


def pane(answer: Answer | None) -> dict[str, Any]:
    """Return what a column shows of an answer, or of none yet."""
    if answer is None:
        return {"state": "idle", "text": "", "meta": "", "error": "", "same": "", "sent": None,
                "weights": None}  # fmt: skip
    return {
        "state": _state(answer),
        "text": answer.text,
        "meta": meta(answer),
        "error": answer.error or "",
        "same": "",
        "sent": None,
        "weights": weights(answer.weights),
    }


def _state(answer: Answer) -> str:
    if answer.stopped:
        return answer.stopped
    if answer.place:
        return "queued"
    return "writing" if answer.ids else "reading"


def meta(answer: Answer) -> str:
    """Return the line of figures: tokens, times, and why it stopped."""
    if not answer.ids and not answer.place:
        return STOPPED[answer.stopped] if answer.stopped else "reading the prompt"
    stopped = f" · {STOPPED[answer.stopped]} ({answer.stopped})" if answer.stopped else ""
    return answer.figures + stopped


def packed(shown: Mapping[str, Any]) -> str:
    """Return what is shown as one string.

    Gradio makes every number of a value a thing to be watched; a text of 2,000 tokens has 300,000.
    """
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sent(encoded: EncodedPrompt, base: EncodedPrompt | None = None) -> dict[str, Any]:
    """Return what was sent: its tokens, which of them the base was not sent, how it will end.

    What the keys mean is in `static/js/types.js`.
    """
    added_places = added(encoded, base) if base else set()
    return {
        "count": len(encoded.ids),
        "tokens": [
            {"text": piece.text, "id": piece.id, "special": piece.special,
             "bytes": piece.data.hex(" "), "added": n in added_places}
            for n, piece in enumerate(encoded.pieces)
        ],
        "text": encoded.text,
        "stops": [repr(text)[1:-1] for text in encoded.stop_texts],
        "digest": digest(encoded),
    }  # fmt: skip


def ledger(
    trio: Trio,
    prompt: Prompt,
    sent_to: Mapping[Role, EncodedPrompt],
    format: Format,
    max_new_tokens: int,
) -> dict[str, Any]:
    """Return what is about to be sent, and what is odd about it."""
    return {
        "columns": [
            {
                "role": role,
                "title": ROLE_TITLES[role],
                "sent": packed(sent(encoded, sent_to["base"])),
            }
            for role, encoded in sent_to.items()
        ],
        "findings": [
            {
                "level": finding.level,
                "text": finding.text,
                "cure": finding.cure,
                "who": ", ".join(ROLE_TITLES[role] for role in finding.roles)
                if len(finding.roles) < len(sent_to)
                else "all",
            }
            for finding in lint(trio, prompt, sent_to, format, max_new_tokens)
        ],
    }


def weights(info: ModelInfo) -> list[dict[str, str]]:
    """Return which weights answered, as named facts."""
    return named(
        {
            "base": info.model,
            "adapter": (info.adapter or "none") + f" at {info.strength:g}" * (info.strength != 1),
            "precision": f"{info.precision}, computed in {info.dtype}",
            "device": info.device,
            "output head": head(info.head),
            "fingerprint": info.fingerprint,
        }
    )


def named(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Return named texts as a list of dicts, in their order."""
    return [{"name": name, "text": text} for name, text in texts.items()]


def head(gate: HeadGate) -> str:
    """Return how the output head is computed, and the figures behind that."""
    if not gate.positions:
        return f"exact: {gate.reason}" if gate.reason else "exact"
    measured = (
        f"KL {gate.kl:.4f} nats, likeliest token the same in {gate.top1:.1%} of "
        f"{gate.positions} positions, loss {gate.loss_exact:.3f} → {gate.loss_screened:.3f}, "
        f"{1000 * gate.exact_s:.0f} → {1000 * gate.screened_s:.0f} ms"
    )
    if gate.used:
        screen = f"a copy in 8 bits finds at least {gate.candidates} candidates"
        return f"{screen}, exact rows decide ({measured})"
    return f"exact; of a screen in 8 bits: {gate.reason} ({measured})"


def finished(answers: Answers) -> str:
    """Return one sentence on how the answers ended, for the status line and for screen readers."""
    endings = [
        f"{ROLE_TITLES[role]}: {answer.new_tokens} token{'s' * (answer.new_tokens != 1)}, "
        f"{STOPPED[answer.stopped]}"
        for role, answer in answers.items()
        if answer.stopped
    ]
    return ". ".join(endings) + "." if endings else ""


def prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """Return the values that a prompt has in the fields of Compare."""
    layout = prompt.layout or Layout()
    rows = [[shot.input, shot.output] for shot in prompt.demonstrations]
    fields = {
        "form": prompt.form,
        "instruction": prompt.instruction,
        "input": prompt.input,
        "input_label": layout.input_label,
        "cue": layout.cue,
    }
    return {**fields, "table": rows, "shots": len(rows)} if rows else fields


def loading(progress: Progress) -> str:
    """Return how far the trio has come."""
    return f"{progress.step} · {progress.done:.0%}"


def memory(size: Memory) -> str:
    """Return what the trio holds, once for all three columns."""
    copy = f"copy of the output head {_mb(size.head_bytes)}, " if size.head_bytes else ""
    return (
        f"Ready. In memory: base {_mb(size.base_bytes)}, adapters {_mb(size.adapter_bytes)}, {copy}"
        f"KV cache {size.kv_bytes_per_token / 1024:.0f} kB a token and column."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
