"""Values → what the page shows: plain dicts and strings. Imports no Gradio."""

from __future__ import annotations

from typing import Any

from models import HeadGate, Loaded, Memory, Progress, Role, Sent, StopReason
from playground.compare import Answer, Answers

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


def pane(answer: Answer | None) -> dict[str, Any]:
    """Return what a column shows of an answer, or of none yet."""
    if answer is None:
        return {"state": "idle", "text": "", "meta": "", "error": "", "sent": None, "weights": None}
    return {
        "state": _state(answer),
        "text": answer.text,
        "meta": meta(answer),
        "error": answer.error or "",
        "sent": sent(answer.sent),
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


def sent(one: Sent) -> dict[str, Any]:
    """Return what was sent: tokens with their ids, special ones marked, and how it will end."""
    return {
        "count": len(one.ids),
        "tokens": [[piece.text, piece.id, int(piece.special)] for piece in one.pieces],
        "text": one.text,
        "stops": [repr(text)[1:-1] for text in one.stop_texts],
        "warnings": list(one.warnings),
    }


def weights(one: Loaded) -> list[list[str]]:
    """Return which weights answered, as rows of name and value."""
    return [
        ["base", one.model],
        ["adapter", one.adapter or "none"],
        ["precision", f"{one.precision}, computed in {one.dtype}"],
        ["device", one.device],
        ["output head", head(one.head)],
        ["fingerprint", one.fingerprint],
    ]


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
        return f"a 4-bit copy finds {gate.candidates} candidates, exact rows decide ({measured})"
    return f"exact; of a 4-bit screen: {gate.reason} ({measured})"


def finished(answers: Answers) -> str:
    """Return one sentence on how all ended, for the status line and for screen readers."""
    said = [
        f"{ROLE_TITLES[role]}: {one.new_tokens} token{'s' * (one.new_tokens != 1)}, "
        f"{STOPPED[one.stopped]}"
        for role, one in answers.items()
        if one.stopped
    ]
    return ". ".join(said) + "." if said else ""


def loading(progress: Progress) -> str:
    """Return how far the trio has come."""
    return f"{progress.step} · {progress.done:.0%}"


def memory(one: Memory) -> str:
    """Return what the trio holds, once for all three columns."""
    copy = f"4-bit copy of the output head {_mb(one.head_bytes)}, " if one.head_bytes else ""
    return (
        f"Ready. In memory: base {_mb(one.base_bytes)}, adapters {_mb(one.adapter_bytes)}, {copy}"
        f"KV cache {one.kv_bytes_per_token / 1024:.0f} kB a token and column."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
