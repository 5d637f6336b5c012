"""Converts comparisons to JSON-ready values: prompt, settings, encoded prompts and answers.

The CLI prints this record and the API returns it. It contains all that is needed to repeat the
comparison, except for a forced beginning of the answers (`compare --begin`).
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
    """Return a comparison as JSON-ready values."""
    return {
        "trio": trio,
        "form": request.prompt.form,
        "format": request.format,
        "stop_texts": request.stop_texts,
        "stop_loops": request.stop_loops,
        "prompt": asdict(request.prompt),
        "sampling": asdict(request.sampling),
        "answers": {role: answer_record(answer) for role, answer in answers.items()},
    }


def answer_record(answer: Answer) -> dict[str, Any]:
    """Return one variant's answer as JSON-ready values; times in seconds, to the millisecond."""
    return {
        "text": answer.text,
        "sent": answer.sent.text,
        "prompt_tokens": len(answer.sent.ids),
        "new_tokens": answer.new_tokens,
        "stopped": answer.stopped,
        "first_token_s": _rounded(answer.first_token_s),
        "tokens_per_s": _rounded(answer.tokens_per_s),
        "error": answer.error,
        "reasoning": answer.reasoning,
        "notes": list(answer.notes),
        "weights": asdict(answer.weights),
    }


def sent_record(sent: EncodedPrompt) -> dict[str, Any]:
    """Return one variant's encoded prompt as JSON-ready values."""
    return {
        "sent": sent.text,
        "prompt_tokens": len(sent.ids),
        "ids": list(sent.ids),
        "stop_texts": list(sent.stop_texts),
        "findings": [asdict(finding) for finding in sent.findings],
        "vocabulary": sent.vocabulary,
        "sources": dict(sent.sources),
        "digest": digest(sent),
    }


def digest(sent: EncodedPrompt) -> str:
    """Return a hash of the token ids of an encoded prompt, or of its text if they are unknown."""
    content = sent.text if not sent.pieces else ",".join(map(str, sent.ids))
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def added(sent: EncodedPrompt, base: EncodedPrompt) -> set[int]:
    """Return the positions of the tokens that the base's prompt lacks, by a diff of the ids."""
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
    """Return for each variant the others with equal weights, judged by their fingerprints."""
    return {
        role: [other for other, other_info in weights.items() if other != role
               and other_info.fingerprint == info.fingerprint != ""]
        for role, info in weights.items()
    }  # fmt: skip


def weights_notes(weights: Mapping[Role, ModelInfo]) -> dict[Role, str]:
    """Return what is to be known of the weights of each variant; no entry if there is nothing."""
    notes: dict[Role, str] = {}
    same = same_weights(weights)
    for role, info in weights.items():
        sentences = []
        if info.changes_nothing:
            sentences.append(
                f"Every update of the adapter {info.adapter} is zero: it changes nothing, and this "
                "is the base."
            )
        if same[role]:
            sentences.append(
                f"The same weights as {' and '.join(same[role])}: equal fingerprints. What differs "
                "is the prompt alone."
            )
        if sentences:
            notes[role] = " ".join(sentences)
    return notes


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
