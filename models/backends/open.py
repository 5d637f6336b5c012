"""Opens a trio: chooses its backend, for local weights, servers, or both."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from models.backends.base import Backend
from models.model_info import ProgressCallback
from models.types import EncodedPrompt, Endpoint, Format, Prompt, Role, Trio, Weights


def open_backend(trio: Trio, on_progress: ProgressCallback | None = None) -> Backend:
    """Load a trio from its sources: local weights, servers, or both.

    Raises:
        ModelError: weights or an API key are missing, or files do not match each other.
    """
    with _without_collecting():
        from models.backends.composite import CompositeBackend
        from models.backends.local import LocalBackend
        from models.backends.openai.backend import OpenAIBackend

    here, there = _parts(trio)
    # Servers first: a missing key is reported before any weights are loaded.
    parts: list[Backend] = [OpenAIBackend(there)] if there.variants else []
    if here.variants:
        with _without_collecting():
            parts.insert(0, LocalBackend(here, on_progress or (lambda progress: None)))
    if len(parts) == 1:
        return parts[0]
    return CompositeBackend(replace(trio, max_context=parts[0].trio.max_context), parts)


def preview(
    trio: Trio, prompt: Prompt, format: Format = "own", stop_texts: bool = True
) -> dict[Role, EncodedPrompt]:
    """Render and tokenize a prompt for each variant; loads tokenizers, but no weights.

    Raises:
        ModelError: a tokenizer cannot be loaded, or the prompt is invalid.
    """
    from models.backends.encoding import encode_for_all, load_trio_encoders
    from models.backends.openai.backend import OpenAIBackend

    here, there = _parts(trio)
    sent: dict[Role, EncodedPrompt] = {}
    if there.variants:
        sent |= OpenAIBackend(there).encode(prompt, format, stop_texts)
    if here.variants:
        here = replace(here, max_context=with_context(trio).max_context)
        encoders = load_trio_encoders(here, lambda progress: None)
        sent |= encode_for_all(encoders, here, prompt, format, stop_texts)
    return {variant.role: sent[variant.role] for variant in trio.variants}


def with_context(trio: Trio) -> Trio:
    """Return a trio with the context that it has when it is opened; loads no weights.

    Raises:
        ModelError: a base cannot be fetched, or was made for fewer tokens than the trio file says.
    """
    from models.backends.encoding import fit_context

    here, _ = _parts(trio)
    fitted = fit_context(here, lambda progress: None) if here.variants else here
    return replace(trio, max_context=fitted.max_context)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Do not look for unused objects for a while: imports and loading make a million that are used.

    Looking takes a tenth of a start. What is unused then is found at the end of loading.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parts(trio: Trio) -> tuple[Trio, Trio]:
    """Split a trio into the variants with local weights and those with endpoints."""
    here, there = (
        replace(trio, variants=tuple(v for v in trio.variants if isinstance(v.source, kind)))
        for kind in (Weights, Endpoint)
    )
    return here, there
