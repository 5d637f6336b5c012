"""What a trio with local weights does without them: it encodes prompts, and knows its context."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from models.backends.model_group import fetch_base
from models.errors import PromptError, WeightsError
from models.model_info import ProgressCallback
from models.text.encoder import Encoder
from models.types import EncodedPrompt, Format, Pin, Prompt, Role, Trio, Variant
from models.weights.load import base_context
from models.weights.tokenizer.tokenizers import load_encoders


def by_base(trio: Trio) -> list[list[Variant]]:
    """Group the variants by their base."""
    groups: dict[Pin, list[Variant]] = defaultdict(list)
    for variant in trio.variants:
        groups[variant.weights.base].append(variant)
    return list(groups.values())


def load_trio_encoders(trio: Trio, on_progress: ProgressCallback) -> dict[Role, Encoder]:
    """Load only tokenizers and chat templates: enough to encode a prompt for each variant."""
    return {
        encoder.variant.role: encoder
        for variants in by_base(trio)
        for encoder in load_encoders(variants, on_progress)
    }


def fit_context(trio: Trio, on_progress: ProgressCallback) -> Trio:
    """Lower a trio's context to what its bases were made for, if the trio file does not give one.

    Raises:
        WeightsError: the file gives a context that a base was not made for.
    """
    for variants in by_base(trio):
        pin = variants[0].weights.base
        context = base_context(fetch_base(pin, on_progress))
        if context is None or trio.max_context <= context:
            continue
        if trio.context_given:
            raise WeightsError(
                f"{trio.name} asks for a context of {trio.max_context} tokens, but {pin} was made "
                f"for {context}. Lower max_context, or leave it out."
            )
        trio = replace(trio, max_context=context)
    return trio


def encode_for_all(
    encoders: Mapping[Role, Encoder], trio: Trio, prompt: Prompt, format: Format, stop_texts: bool
) -> dict[Role, EncodedPrompt]:
    """Render and tokenize a prompt for every variant.

    Raises:
        PromptError: the prompt is invalid, or leaves no room for an answer in the context.
    """
    sent = {v.role: encoders[v.role].encode(prompt, format, stop_texts) for v in trio.variants}
    for role, encoded in sent.items():
        if len(encoded.ids) >= trio.max_context:
            raise PromptError(
                f"The prompt is {len(encoded.ids)} tokens for {role}, and the context of "
                f"{trio.name} is {trio.max_context}. Shorten it."
            )
    return sent
