"""Finds mistakes in a prompt and in its encoding, each with a fix. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from models import EncodedPrompt, Finding, Format, Prompt, Role, Trio, to_text

NEARLY_FULL = 0.9
"""Share of the context above which a prompt is reported as nearly filling it."""
UNBALANCED = 0.75
"""Least share of demonstrations with the same label that is reported as unbalanced."""
_TEMPLATES = re.compile(
    r"<\|im_start\|>|<start_of_turn>|\[INST\]|<\|start_header_id\|>|### (?:Instruction|Response):"
)


@dataclass(frozen=True, slots=True)
class Lint:
    """One finding, with the variants that it concerns."""

    level: Literal["error", "warning"]
    text: str
    cure: str
    roles: tuple[Role, ...]


def lint(
    trio: Trio,
    prompt: Prompt,
    sent: Mapping[Role, EncodedPrompt],
    format: Format,
    max_new_tokens: int,
) -> list[Lint]:
    """Return the findings on a prompt and its encoding, errors first.

    Args:
        trio: the trio that gets the prompt.
        prompt: the prompt.
        sent: the prompt as it is encoded for each variant.
        format: each variant in its own format, or the same bytes to all.
        max_new_tokens: limit of each answer.
    """
    roles: dict[Finding, list[Role]] = {}
    for role, encoded in sent.items():
        findings = [*encoded.findings, *_of_variant(trio, role, encoded, format, max_new_tokens)]
        for finding in dict.fromkeys(findings):
            roles.setdefault(finding, []).append(role)
    for finding in _of_prompt(prompt, sent):
        roles[finding] = list(sent)
    lints = (
        Lint(finding.level, finding.text, finding.cure, tuple(concerned))
        for finding, concerned in roles.items()
    )
    return sorted(lints, key=lambda lint: lint.level)


def _of_variant(
    trio: Trio, role: Role, sent: EncodedPrompt, format: Format, max_new_tokens: int
) -> Iterator[Finding]:
    variant = next(variant for variant in trio.variants if variant.role == role)
    chat = format == "own" and variant.reads == "chat"
    if role == "instruct" and not chat:
        yield Finding(
            "warning",
            "The instruction-tuned variant is sent no chat template.",
            "Choose “each in its own format” to see it as it was tuned."
            if variant.reads == "chat"
            else 'Say reads = "chat" in the trio file, if it was tuned with one.',
        )
    if role == "base" and chat:
        yield Finding(
            "error",
            "A chat template is put around the prompt of a base, which never saw one.",
            'Say reads = "text" in the trio file.',
        )
    if sent.text[-1:] in (" ", "\t"):
        yield Finding(
            "error",
            "The prompt ends in a space, which tokenizers put at the beginning of words.",
            "Take the space away: a token after it is one that training hardly ever saw there.",
        )
    length, context = len(sent.ids), trio.max_context
    if length + max_new_tokens > context:
        yield Finding(
            "warning",
            f"{length:,} tokens leave room for {context - length:,} of the answer's "
            f"{max_new_tokens:,}; the context is {context:,}.",
            "Shorten the prompt, or ask for fewer tokens.",
        )
    elif length > NEARLY_FULL * context:
        yield Finding(
            "warning",
            f"{length:,} tokens nearly fill the context of {context:,}.",
            "Shorten the prompt.",
        )


def _of_prompt(prompt: Prompt, sent: Mapping[Role, EncodedPrompt]) -> Iterator[Finding]:
    if match := _TEMPLATES.search(to_text(prompt)):
        yield Finding(
            "warning",
            f"The prompt holds a piece of a chat template, {match.group()!r}, as plain text.",
            "Leave templates to the variants that read them.",
        )
    if len({encoded.vocabulary for encoded in sent.values()} - {""}) > 1:  # "": endpoints
        yield Finding(
            "warning",
            "The variants have different vocabularies: token counts and losses do not compare.",
            "Compare bits per byte, or choose variants of one family.",
        )
    yield from _of_demonstrations(prompt)


def _of_demonstrations(prompt: Prompt) -> Iterator[Finding]:
    shots = prompt.demonstrations
    input = prompt.input.strip().casefold()
    for number, shot in enumerate(shots, 1):
        if shot.input.strip().casefold() == input:
            yield Finding(
                "error",
                f"Demonstration {number} holds the very input that is asked: its answer is given.",
                "Take the row out, or ask something else.",
            )
    labels = Counter(shot.output.strip() for shot in shots)
    if len(shots) >= 3 and len(labels) < len(shots):  # some output repeats, so outputs are labels
        label, count = labels.most_common(1)[0]
        if count >= UNBALANCED * len(shots):
            yield Finding(
                "warning",
                f"{count} of {len(shots)} demonstrations answer {label!r}, which makes that "
                "answer likelier whatever is asked.",
                "Show as many of each label.",
            )
