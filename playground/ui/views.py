"""Values → what the page shows: plain dicts and strings. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from models import (
    Form,
    Format,
    HeadGate,
    Layout,
    Loaded,
    Memory,
    Progress,
    Prompt,
    Role,
    Sent,
    StopReason,
    Trained,
    Trio,
)
from playground.compare import Answer, Answers
from playground.evaluate import Evaluation, Plan
from playground.ledger import added, digest, same_weights
from playground.lint import lint
from playground.results import Scoring
from playground.tasks import Task
from playground.training import Shown

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
SCORINGS: dict[Scoring, tuple[str, str]] = {
    "generation": (
        "Says it",
        "Share of items where the answer, as it was written, names the right label first, or is "
        "the right text.",
    ),
    "likelihood": (
        "Finds it likeliest",
        "Share of items where the right label has the highest log-probability of all labels, "
        "summed over its tokens, whatever is written: fair to a base, which was never taught to "
        "answer, but not to long labels.",
    ),
    "calibrated": (
        "Likeliest, calibrated",
        "The same, less what each label has after an empty item: a label that is likely "
        "everywhere wins nothing by it.",
    ),
    "valid": (
        "Valid answers",
        "Share of answers that are one of the labels and nothing else, and ended by themselves or "
        "where the layout begins again, right or wrong.",
    ),
    "ended": ("Ended by itself", "Share of answers that end with the end-of-text token."),
    "task-format": (
        "Task format",
        "Share of answers in the one format that the task-tuned variant was tuned to, whatever "
        "was asked.",
    ),
    "rouge-l": ("ROUGE-L", "How much of the right text's word order an answer has, from 0 to 100."),
}
"""Each way to score, as people call it, and what it says."""
STOPPED: dict[StopReason, str] = {
    "eos": "ended by itself",
    "stop": "cut at the stop text",
    "length": "hit the length limit",
    "cancelled": "stopped by you",
    "deadline": "hit the time limit",
    "error": "failed",
}


def panes(answers: Answers) -> dict[str, Any]:
    """Return what the columns show."""
    same = same_weights({role: one.weights for role, one in answers.items()})
    base = answers["base"].sent if "base" in answers else None
    return {
        role: {
            **pane(one),
            "sent": sent(one.sent, base),
            "same": f"The same weights as {' and '.join(ROLE_TITLES[r] for r in same[role])}: "
            "equal fingerprints. What differs is the prompt alone."
            if same[role]
            else "",
        }
        for role, one in answers.items()
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


@lru_cache(maxsize=64)  # painted many times while an answer grows
def sent(one: Sent, base: Sent | None = None) -> dict[str, Any]:
    """Return what was sent: its tokens, which of them the base was not sent, how it will end.

    A token is its text, its id, whether it is special, its bytes in hex, and that mark.
    """
    new = added(one, base) if base else set()
    return {
        "count": len(one.ids),
        "tokens": [
            [p.text, p.id, int(p.special), p.data.hex(" "), int(n in new)]
            for n, p in enumerate(one.pieces)
        ],
        "text": one.text,
        "stops": [repr(text)[1:-1] for text in one.stop_texts],
        "digest": digest(one),
    }


def ledger(
    trio: Trio, prompt: Prompt, sent_to: Mapping[Role, Sent], format: Format, max_new_tokens: int
) -> dict[str, Any]:
    """Return what is about to be sent, and what is odd about it."""
    return {
        "columns": [
            {"role": role, "title": ROLE_TITLES[role], "sent": sent(one, sent_to["base"])}
            for role, one in sent_to.items()
        ],
        "findings": [
            {
                "level": one.level,
                "text": one.text,
                "cure": one.cure,
                "who": ", ".join(ROLE_TITLES[role] for role in one.roles)
                if len(one.roles) < len(sent_to)
                else "all",
            }
            for one in lint(trio, prompt, sent_to, format, max_new_tokens)
        ],
    }


def weights(one: Loaded) -> list[list[str]]:
    """Return which weights answered, as rows of name and value."""
    return [
        ["base", one.model],
        ["adapter", (one.adapter or "none") + f" at {one.strength:g}" * (one.strength != 1)],
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
        found = f"a copy in 8 bits finds {gate.candidates} candidates"
        return f"{found}, exact rows decide ({measured})"
    return f"exact; of a screen in 8 bits: {gate.reason} ({measured})"


def finished(answers: Answers) -> str:
    """Return one sentence on how all ended, for the status line and for screen readers."""
    said = [
        f"{ROLE_TITLES[role]}: {one.new_tokens} token{'s' * (one.new_tokens != 1)}, "
        f"{STOPPED[one.stopped]}"
        for role, one in answers.items()
        if one.stopped
    ]
    return ". ".join(said) + "." if said else ""


def evaluation(
    state: Evaluation | None, differences: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the table of an evaluation, as far as it has come.

    Args:
        state: None shows nothing.
        differences: those of its record, once all is asked.
    """
    if state is None:
        return {"rows": [], "roles": [], "scorings": [], "pairs": [], "only": [], "record": ""}
    tasks = {task.name: task for task in state.plan.tasks}
    lines: dict[tuple[str, Form], dict[str, Any]] = {}
    for one in state.results():
        task = tasks[one.task]
        line = lines.setdefault(
            (one.task, one.form),
            {"task": one.task, "title": task.title, "held_out": task.held_out, "form": one.form,
             "n": one.n, "scores": {}},
        )  # fmt: skip
        cell = {"value": one.value, "low": one.low, "high": one.high}
        line["scores"].setdefault(one.scoring, {})[one.variant] = cell
    there = {scoring for line in lines.values() for scoring in line["scores"]}
    return {
        "rows": list(lines.values()),
        "roles": [{"role": role, "title": ROLE_TITLES[role]} for role in state.plan.variants],
        "scorings": [
            {"name": name, "title": title, "explains": explains}
            for name, (title, explains) in SCORINGS.items()
            if name in there
        ],
        "pairs": [
            {**one, "title": tasks[one["task"]].title, "ours_title": ROLE_TITLES[one["ours"]],
             "theirs_title": ROLE_TITLES[one["theirs"]]}
            for one in differences
        ],
        "only": [_only(state.plan, *one) for one in state.only_right()],
        "record": "",
    }  # fmt: skip


def _only(
    plan: Plan, task: Task, form: Form, item: int, wording: int, role: Role
) -> dict[str, Any]:
    """Return an item that one variant alone got right, and what it puts into Compare's fields."""
    one = task.items[item]
    prompt = task.prompt(form, one.input, wording, plan.shots)
    return {
        "role": role,
        "title": ROLE_TITLES[role],
        "task": task.title,
        "form": form,
        "input": one.input,
        "gold": one.gold,
        "fields": prompt_fields(prompt),
    }


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


def training(
    rows: Mapping[Role, Shown] | None, made: Mapping[Role, Trained], base: Mapping[str, str]
) -> dict[str, Any]:
    """Return how the variants were trained: a row of each kind, and what made the adapters."""
    if rows is None:
        return {"rows": [], "made": []}
    return {
        "rows": [
            {
                "role": role,
                "title": f"{ROLE_TITLES[role]}: {one.kind}",
                "explains": one.explains,
                "tokens": [piece.text for piece in one.pieces],
                "first": one.first_label,
            }
            for role, one in rows.items()
        ],
        "made": [{"role": role, "title": ROLE_TITLES[role], **_made(made.get(role), base)}
                 for role in rows],
    }  # fmt: skip


def _made(one: Trained | None, base: Mapping[str, str]) -> dict[str, Any]:
    if one is None:
        facts = [list(fact) for fact in base.items()]
        return {"facts": facts, "curve": [], "steps": 0, "examples": [], "sources": []}
    recipe, training = one.recipe, one.recipe.training
    held = []
    if one.held_out_loss_before is not None and one.held_out_loss_after is not None:
        losses = f"{one.held_out_loss_before:.2f} → {one.held_out_loss_after:.2f} nats per label"
        held = [[f"loss on {one.held_out_rows:,} rows kept apart", losses]]
    supervised = f", {one.supervised_tokens:,} labels" if one.supervised_tokens else ""
    return {
        "facts": [
            ["recipe", recipe.name],
            ["rows", f"{one.rows:,}{supervised}"],
            ["adapter", f"LoRA, rank {recipe.lora.rank}, alpha {recipe.lora.alpha}"],
            [
                "steps",
                f"{len(one.curve):,} of {training.batch_rows} rows, {training.epochs} "
                f"epoch{'s' * (training.epochs != 1)}, learning rate {training.learning_rate:g}",
            ],
            ["time", f"{one.seconds / 60:.0f} min"],
            *held,
        ],
        "curve": _smoothed(one.curve),
        "steps": len(one.curve),
        "examples": [
            {"tokens": [*row.prompt, *row.completion], "first": len(row.prompt)}
            for row in one.examples
        ],
        "sources": list(dict.fromkeys(f"{s.attribution}, {s.licence}" for s in recipe.sources)),
    }


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Return up to 100 means of neighbouring steps: single batches are noisy."""
    each = max(1, -(-len(losses) // 100))
    parts = [losses[n : n + each] for n in range(0, len(losses), each)]
    return [round(sum(part) / len(part), 4) for part in parts]


def loading(progress: Progress) -> str:
    """Return how far the trio has come."""
    return f"{progress.step} · {progress.done:.0%}"


def memory(one: Memory) -> str:
    """Return what the trio holds, once for all three columns."""
    copy = f"copy of the output head {_mb(one.head_bytes)}, " if one.head_bytes else ""
    return (
        f"Ready. In memory: base {_mb(one.base_bytes)}, adapters {_mb(one.adapter_bytes)}, {copy}"
        f"KV cache {one.kv_bytes_per_token / 1024:.0f} kB a token and column."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
