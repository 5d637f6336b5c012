"""A finished comparison as one plain object: what was asked, sent, set and answered.

The CLI prints it, the API returns it, and it is all that a reader needs to do the same again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from difflib import SequenceMatcher
from typing import Any

from models import EncodedPrompt, ModelInfo, Request, Role
from playground.comparison.compare import Answer, Answers


def comparison_record(trio: str, request: Request, answers: Answers) -> dict[str, Any]:
    """Return the comparison as JSON-ready values."""
    return {
        "trio": trio,
        "form": request.prompt.form,
        "format": request.format,
        "stop_texts": request.stop_texts,
        "prompt": asdict(request.prompt),
        "sampling": asdict(request.sampling),
        "answers": {role: answer_record(one) for role, one in answers.items()},
    }


def answer_record(answer: Answer) -> dict[str, Any]:
    """Return one variant's answer as JSON-ready values; times in seconds, rounded to the ms."""
    return {
        "text": answer.text,
        "sent": answer.sent.text,
        "prompt_tokens": len(answer.sent.ids),
        "new_tokens": answer.new_tokens,
        "stopped": answer.stopped,
        "first_token_s": _rounded(answer.first_token_s),
        "tokens_per_s": _rounded(answer.tokens_per_s),
        "error": answer.error,
        "weights": asdict(answer.weights),
    }


def sent_record(sent: EncodedPrompt) -> dict[str, Any]:
    """Return what one variant is sent as JSON-ready values."""
    return {
        "sent": sent.text,
        "prompt_tokens": len(sent.ids),
        "ids": list(sent.ids),
        "stop_texts": list(sent.stop_texts),
        "findings": [asdict(one) for one in sent.findings],
        "vocabulary": sent.vocabulary,
        "digest": digest(sent),
    }


def digest(sent: EncodedPrompt) -> str:
    """Return a hash of what is sent: equal hashes, equal tokens."""
    told = sent.text if not sent.pieces else ",".join(map(str, sent.ids))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def added(sent: EncodedPrompt, base: EncodedPrompt) -> set[int]:
    """Return the places of the tokens that another variant is not sent."""
    ours, theirs = sent.ids, base.ids
    pairs = list(zip(ours, theirs, strict=False))
    same = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    match = SequenceMatcher(None, theirs[same:], ours[same:])
    return {
        same + n
        for tag, _, _, start, end in match.get_opcodes()
        if tag != "equal"
        for n in range(start, end)
    }


def same_weights(weights: Mapping[Role, ModelInfo]) -> dict[Role, list[Role]]:
    """Return for each variant the others that compute the very same: their fingerprints say so."""
    return {
        role: [other for other, its in weights.items() if other != role
               and its.fingerprint == one.fingerprint != ""]
        for role, one in weights.items()
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
