"""TrioScores → what the Lens tab shows. Imports no Gradio."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from models import Role, TokenScores
from playground.comparison.compare import Answers
from playground.lens.quantization import QuantizationReport
from playground.lens.token_scores import (
    LossSummary,
    TrioScores,
    departure,
    loss_summary,
    token_differences,
)
from playground.ui.answer_view import ROLE_TITLES, STOPPED

NOTHING = "{}"
"""What is packed before anything was read."""


def packed(shown: Mapping[str, Any]) -> str:
    """Return what is shown as one string.

    Gradio makes every number of a value a thing to be watched; a text of 2,000 tokens has 300,000.
    """
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def lens(
    readings: TrioScores, answer_of: Role | None, cost: Mapping[Role, LossSummary] | None, word: str
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
            {"role": role, "title": ROLE_TITLES[role], "nats": one.loss, "tokens": one.tokens}
            for role, one in (cost or {}).items()
        ],
        "word": word,
        "of": ROLE_TITLES[answer_of] if answer_of else "",
    }


def _variant(one: TokenScores, base: TokenScores) -> dict[str, Any]:
    more = token_differences(one, base)
    whole, answer = loss_summary(one), loss_summary(one, answer=True)
    has_answer = len(one.pieces) > one.prompt_tokens
    parted = departure(one) if has_answer else None
    return {
        "role": one.role,
        "title": ROLE_TITLES[one.role],
        "prompt": one.prompt_tokens,
        "tokens": [
            [
                piece.text,
                piece.id,
                int(piece.special),
                _short(loss),
                rank,
                _short(d.p) if d else None,
                d.rank if d else None,
            ]
            for piece, loss, rank, d in zip(
                one.pieces[: len(one.after) + 1],
                one.losses,
                one.ranks,
                more[: len(one.losses)],
                strict=False,
            )
        ],
        "after": [
            [[likely.text, likely.id, _short(likely.p), _short(likely.sampled)]
             for likely in after.top]
            for after in one.after
        ],
        "outside": [_short(after.remaining) for after in one.after],
        "sums": [
            [name, sums.tokens, sums.loss, sums.mean_loss, sums.perplexity, sums.bits_per_byte]
            for name, sums in (("whole text", whole), ("answer", answer if has_answer else None))
            if sums
        ],
        "parts_at": parted,
        "says": one.after[parted - 1].top[0].text if parted else "",
    }  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def fork(run: float, title: str, forced_prefix: str, answers: Answers) -> dict[str, Any]:
    """Return how the variants go on from one and the same beginning, in one run."""
    return {
        "run": run,
        "title": title,
        "begun": forced_prefix,
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


def rounding(found: Sequence[QuantizationReport]) -> list[dict[str, Any]]:
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


def told(readings: TrioScores) -> str:
    """Return one sentence on what was read, for the status line and for screen readers."""
    parts = [
        f"{ROLE_TITLES[role]}: {sums.mean_loss:.2f} nats a token"
        for role, one in readings.items()
        if (sums := loss_summary(one))
    ]
    longest = max(len(one.pieces) for one in readings.values())
    return f"{longest:,} tokens read. {'. '.join(parts)}." if parts else "One token read."


def visible(texts: Sequence[str]) -> str:
    """Return some tokens' text on one line, its end if it is long."""
    text = "".join(texts).replace("\n", "↵")
    return f"…{text[-40:]}" if len(text) > 40 else text
