"""Converts token scores to what the Lens tab shows. Imports no Gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models import Role, TokenDistribution, TokenScores
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
"""The packed value before anything is scored: an empty JSON object."""


def lens(
    scores: TrioScores, answer_of: Role | None, cost: Mapping[Role, LossSummary] | None, word: str
) -> dict[str, Any]:
    """Return the value of the lens: the scores of all variants, finished or not.

    Args:
        scores: the scores of one text, or of one answer after each variant's own prompt.
        answer_of: the variant that gave the answer, if there is one.
        cost: the loss of a word after the text.
        word: that word.
    """
    base = next(iter(scores.values()), None)  # the base, unless its server has no scores
    return {
        "variants": [_variant(own, base) for own in scores.values()] if base else [],
        "cost": [
            {"role": role, "title": ROLE_TITLES[role], "loss": sums.loss, "tokens": sums.tokens}
            for role, sums in (cost or {}).items()
        ],
        "word": word,
        "answer_of": ROLE_TITLES[answer_of] if answer_of else "",
    }


def _variant(scores: TokenScores, base: TokenScores) -> dict[str, Any]:
    has_answer = len(scores.pieces) > scores.prompt_tokens
    summaries = {
        "whole text": loss_summary(scores),
        "answer": loss_summary(scores, answer=True) if has_answer else None,
    }
    departs_at = departure(scores) if has_answer else None
    return {
        "role": scores.role,
        "title": ROLE_TITLES[scores.role],
        "prompt_tokens": scores.prompt_tokens,
        "tokens": _tokens(scores, base),
        "next": _next_tokens(scores.distributions),
        "sums": [
            {
                "name": name,
                "tokens": sums.tokens,
                "loss": sums.loss,
                "loss_per_token": sums.mean_loss,
                "perplexity": sums.perplexity,
                "bits_per_byte": sums.bits_per_byte,
            }
            for name, sums in summaries.items()
            if sums
        ],
        "parts_at": departs_at,
        "says": scores.distributions[departs_at - 1].top[0].text if departs_at else "",
    }


def _tokens(scores: TokenScores, base: TokenScores) -> dict[str, list[Any]]:
    """Return the scored tokens as a dict of columns; a dict per token would be twice as large."""
    losses = scores.losses
    pieces = scores.pieces[: len(losses)]
    gains = token_differences(scores, base)[: len(losses)]
    return {
        "text": [piece.text for piece in pieces],
        "id": [piece.id for piece in pieces],
        "special": [piece.special for piece in pieces],
        "loss": [_short(loss) for loss in losses],
        "rank": list(scores.ranks),
        "p_gain": [_short(gain.p) if gain else None for gain in gains],
        "rank_gain": [gain.rank if gain else None for gain in gains],
    }


def _next_tokens(after: Sequence[TokenDistribution]) -> dict[str, list[Any]]:
    """Return the next-token distribution after each token, as a dict of columns."""
    return {
        "text": [[token.text for token in distribution.top] for distribution in after],
        "id": [[token.id for token in distribution.top] for distribution in after],
        "p": [[_short(token.p) for token in distribution.top] for distribution in after],
        "sampled": [
            [_short(token.sampled) for token in distribution.top] for distribution in after
        ],
        "outside": [_short(distribution.remaining) for distribution in after],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def fork(run: float, title: str, beginning: str, answers: Answers) -> dict[str, Any]:
    """Return the value of a fork: each variant's continuation of the same beginning."""
    return {
        "run": run,
        "title": title,
        "begun": beginning,
        "columns": [
            {
                "role": role,
                "title": ROLE_TITLES[role],
                "text": answer.text,
                "meta": f"{answer.new_tokens} tok · {STOPPED[answer.stopped]}"
                if answer.stopped
                else "",
                "error": answer.error or "",
            }
            for role, answer in answers.items()
        ],
    }


def quantization(reports: Sequence[QuantizationReport]) -> list[dict[str, Any]]:
    """Return how much quantization changes each variant, next to how much tuning does."""
    return [
        {
            "role": report.role,
            "title": ROLE_TITLES[report.role],
            "kl": report.kl,
            "tuning": report.tuning_kl,
            "same": report.same_top,
            "parts": report.parts_at,
            "text": report.text,
            "whole": report.whole_text,
        }
        for report in reports
    ]


def summary_line(scores: TrioScores) -> str:
    """Return one sentence on what was scored, for the status line and for screen readers."""
    parts = [
        f"{ROLE_TITLES[role]}: {sums.mean_loss:.2f} nats a token"
        for role, own in scores.items()
        if (sums := loss_summary(own))
    ]
    longest = max(len(own.pieces) for own in scores.values())
    return f"{longest:,} tokens read. {'. '.join(parts)}." if parts else "One token read."


def visible(texts: Sequence[str]) -> str:
    """Join tokens' texts on one line, with line breaks visible and only the end of a long text."""
    text = "".join(texts).replace("\n", "↵")
    return f"…{text[-40:]}" if len(text) > 40 else text
