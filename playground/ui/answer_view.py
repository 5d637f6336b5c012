"""Converts values to what the page shows: plain dicts and strings. Imports no Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models import (
    EncodedPrompt,
    HeadGate,
    Layout,
    Memory,
    ModelInfo,
    Progress,
    Prompt,
    Request,
    Role,
    StopReason,
    Trio,
)
from playground.comparison.compare import Answer, Answers
from playground.comparison.records import added, digest, weights_notes
from playground.comparison.settings import settings_line
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
    "loop": "went round, and was ended",
    "content_filter": "cut by its server's filter",
    "tool_calls": "called a tool",
    "refusal": "refused to answer",
    "unknown": "ended for an unknown reason",
    "cancelled": "stopped by you",
    "deadline": "hit the time limit",
    "error": "failed",
}


def packed_prompts(answers: Answers) -> dict[Role, str]:
    """Return each variant's encoded prompt, packed once, since only the answers grow."""
    base = answers["base"].sent if "base" in answers else None
    return {role: packed(sent(answer.sent, base)) for role, answer in answers.items()}


def panes(answers: Answers, packed_prompts: Mapping[Role, str]) -> dict[str, Any]:
    """Return the values of the columns."""
    notes = weights_notes({role: answer.weights for role, answer in answers.items()})
    return {
        role: {
            **pane(answer),
            "sent": packed_prompts[role],
            "same": notes.get(role, ""),
        }
        for role, answer in answers.items()
    }


def pane(answer: Answer | None) -> dict[str, Any]:
    """Return the value of a column; an empty one if there is no answer yet."""
    if answer is None:
        return {"state": "idle", "text": "", "meta": "", "error": "", "reasoning": "", "notes": "",
                "same": "", "sent": None, "weights": None}  # fmt: skip
    return {
        "state": _state(answer),
        "text": answer.text,
        "meta": meta(answer),
        "error": answer.error or "",
        "reasoning": answer.reasoning,
        "notes": " ".join(answer.notes),
        "same": "",
        "sent": None,
        "weights": weights(answer.weights),
    }


def _state(answer: Answer) -> str:
    if answer.stopped:
        return answer.stopped
    if answer.place:
        return "queued"
    return "writing" if answer.begun else "reading"


def meta(answer: Answer) -> str:
    """Return an answer's line of figures: number of tokens, times, and why it stopped."""
    if not answer.ids and not answer.place:
        if answer.stopped:
            return STOPPED[answer.stopped]
        return "reasoning" if answer.reasoning else "reading the prompt"
    stopped = f" · {STOPPED[answer.stopped]} ({answer.stopped})" if answer.stopped else ""
    return answer.figures + stopped


def packed(shown: Mapping[str, Any]) -> str:
    """Serialise a component's value to one JSON string.

    Gradio observes every number in a value for changes; a text of 2,000 tokens has 300,000 numbers.
    """
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sent(encoded: EncodedPrompt, base: EncodedPrompt | None = None) -> dict[str, Any]:
    """Return an encoded prompt: its tokens, which of them the base's lacks, and its stop texts.

    The keys are documented in `static/js/types.js`.
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
        "sources": " · ".join(f"{part}: {file}" for part, file in encoded.sources.items()),
    }  # fmt: skip


def ledger(trio: Trio, request: Request, sent_to: Mapping[Role, EncodedPrompt]) -> dict[str, Any]:
    """Return the ledger: each variant's encoded prompt, the settings, and the linter's findings."""
    prompt, max_new_tokens = request.prompt, request.sampling.max_new_tokens
    return {
        "settings": settings_line(request),
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
            for finding in lint(trio, prompt, sent_to, request.format, max_new_tokens)
        ],
    }


def weights(info: ModelInfo) -> list[dict[str, str]]:
    """Return the facts about the weights that answered, by name."""
    return named(
        {
            "base": info.model,
            "adapter": (info.adapter or "none") + f" at {info.strength:g}" * (info.strength != 1),
            "precision": f"{info.precision}, computed in {info.dtype}",
            "device": info.device,
            "output head": head(info.head),
            **({"decode steps": info.steps} if info.steps else {}),
            "fingerprint": info.fingerprint,
        }
    )


def named(texts: Mapping[str, str]) -> list[dict[str, str]]:
    """Convert a mapping of names to texts to a list of dicts, in the same order."""
    return [{"name": name, "text": text} for name, text in texts.items()]


def head(gate: HeadGate) -> str:
    """Return how the output head is computed, and the measurements behind that choice."""
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
    """Convert a prompt to values of Compare's fields, by their names."""
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
    """Return the progress of loading as text."""
    return f"{progress.step} · {progress.done:.0%}"


def memory(size: Memory) -> str:
    """Return the memory that a trio uses as text; it is shared by all three columns."""
    copy = f"copy of the output head {_mb(size.head_bytes)}, " if size.head_bytes else ""
    return (
        f"Ready. In memory: base {_mb(size.base_bytes)}, adapters {_mb(size.adapter_bytes)}, {copy}"
        f"KV cache {size.kv_bytes_per_token / 1024:.0f} kB a token and column."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
