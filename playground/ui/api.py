"""The endpoint /compare, for clients and agents: the page's function with typed arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from models import Form, Format, ModelError, Sampling
from playground.compare import prompt_of
from playground.ui.events import Events


def wire(wired: Events) -> None:
    """Add the endpoint to the page that is being built."""

    def compare(
        text: str,
        form: Form = "instruction",
        instruction: str = "",
        examples: list[str] | None = None,
        format: Format = "own",
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> Iterator[dict[str, Any]]:
        """Send one prompt to a base, a task-tuned and an instruction-tuned variant.

        Args:
            text: the instruction; with `instruction` or another form, the input.
            form: instruction, zero-shot or few-shot.
            instruction: an imperative above the input.
            examples: demonstrations, each as `input => output`.
            format: own (each variant in its own format) or same (the same bytes to all).
            max_new_tokens: length limit of each answer.
            temperature: 0 is greedy.
            top_p: mass of the nucleus.
            top_k: 0 keeps the whole vocabulary.
            seed: of the draws.
        """
        try:
            prompt = prompt_of(text, form, instruction, examples or [])
            sampling = Sampling(max_new_tokens, temperature, top_p, top_k, seed)
            yield from wired.api_compare(prompt, format, sampling)
        except ModelError as error:
            raise gr.Error(str(error), print_exception=False) from error

    gr.api(compare, api_name="compare", concurrency_limit=None)
