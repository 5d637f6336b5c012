"""Readings → what the Lens tab shows. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import Role
from playground.comparison.compare import Answers
from playground.lens.quantization import Rounded
from playground.lens.readings import Reading, Readings, Sums, differences, parting
from playground.ui.answer_view import ROLE_TITLES, STOPPED

NOTHING = "{}"
"""What is packed before anything was read."""


def lens(
    readings: Readings, answer_of: Role | None, cost: Mapping[Role, Sums] | None, word: str
) -> dict[str, Any]:
    """Return all three readings, as far as they have come.

    Args:
        readings: of one text, or of one answer after each variant's own prompt.
        answer_of: whose answer it is.
        cost: what a word would cost after the text.
        word: that word.
    """
    base = next(iter(readings.values()), None)  # the base, unless its server tells nothing
    return {
        "variants": [_variant(one, base) for one in readings.values()] if base else [],
        "cost": [
            {"role": role, "title": ROLE_TITLES[role], "loss": one.nats, "tokens": one.tokens}
            for role, one in (cost or {}).items()
        ],
        "word": word,
        "answer_of": ROLE_TITLES[answer_of] if answer_of else "",
    }


def _variant(one: Reading, base: Reading) -> dict[str, Any]:
    whole, answer = one.sums(), one.sums(answer=True)
    has_answer = len(one.pieces) > one.prompt_tokens
    parted = parting(one) if has_answer else None
    return {
        "role": one.role,
        "title": ROLE_TITLES[one.role],
        "prompt_tokens": one.prompt_tokens,
        "tokens": _tokens(one, base),
        "next": {
            "text": [[likely.text for likely in after.likeliest] for after in one.after],
            "id": [[likely.id for likely in after.likeliest] for after in one.after],
            "p": [[_short(likely.p) for likely in after.likeliest] for after in one.after],
            "sampled": [[_short(likely.sampled) for likely in after.likeliest]
                        for after in one.after],
            "outside": [_short(after.outside) for after in one.after],
        },
        "sums": [
            {
                "name": name,
                "tokens": sums.tokens,
                "loss": sums.nats,
                "loss_per_token": sums.nats_per_token,
                "perplexity": sums.perplexity,
                "bits_per_byte": sums.bits_per_byte,
            }
            for name, sums in (("whole text", whole), ("answer", answer if has_answer else None))
            if sums
        ],
        "parts_at": parted,
        "says": one.after[parted - 1].likeliest[0].text if parted else "",
    }  # fmt: skip


def _tokens(one: Reading, base: Reading) -> dict[str, list[Any]]:
    """Return the tokens that are read, column by column: dicts would take twice the bytes."""
    losses = one.losses
    pieces = one.pieces[: len(losses)]
    gains = differences(one, base)[: len(losses)]
    return {
        "text": [piece.text for piece in pieces],
        "id": [piece.id for piece in pieces],
        "special": [piece.special for piece in pieces],
        "loss": [_short(loss) for loss in losses],
        "rank": list(one.ranks),
        "p_gain": [_short(gain.p) if gain else None for gain in gains],
        "rank_gain": [gain.rank if gain else None for gain in gains],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def fork(run: float, title: str, begun: str, answers: Answers) -> dict[str, Any]:
    """Return how the variants go on from one and the same beginning, in one run."""
    return {
        "run": run,
        "title": title,
        "begun": begun,
        "columns": [
            {
                "role": role,
                "title": ROLE_TITLES[role],
                "text": one.text,
                "meta": f"{one.new_tokens} tok · {STOPPED[one.stopped]}" if one.stopped else "",
                "error": one.error or "",
            }
            for role, one in answers.items()
        ],
    }


def rounding(found: Sequence[Rounded]) -> list[dict[str, Any]]:
    """Return what 4 bits change of each variant, beside what tuning changes."""
    return [
        {
            "role": one.role,
            "title": ROLE_TITLES[one.role],
            "kl": one.kl,
            "tuning": one.tuning_kl,
            "same": one.same_top,
            "parts": one.parts_at,
            "text": one.text,
            "whole": one.whole_text,
        }
        for one in found
    ]


def told(readings: Readings) -> str:
    """Return one sentence on what was read, for the status line and for screen readers."""
    parts = [
        f"{ROLE_TITLES[role]}: {sums.nats_per_token:.2f} nats a token"
        for role, one in readings.items()
        if (sums := one.sums())
    ]
    longest = max(len(one.pieces) for one in readings.values())
    return f"{longest:,} tokens read. {'. '.join(parts)}." if parts else "One token read."


def visible(texts: Sequence[str]) -> str:
    """Return some tokens' text on one line, its end if it is long."""
    text = "".join(texts).replace("\n", "↵")
    return f"…{text[-40:]}" if len(text) > 40 else text
