"""The API endpoints /compare, /grid and /lens: the page's functions with typed arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr

from models import FORMS, Form, Format, ModelError, PromptError, Request, Role, Sampling
from playground.comparison.compare import prompt_of
from playground.comparison.grid import prompts_of
from playground.comparison.trio_loader import TrioLoader
from playground.lens.reading import LensRequest
from playground.prompting.links import RANGES
from playground.ui.endpoints import records
from playground.ui.server.visitors import Visitors
from playground.ui.work import DEADLINE_S, short


def wire(loaders: Sequence[TrioLoader], visitors: Visitors) -> None:
    """Add the endpoints to the page that is being built; the first trio is the default."""

    def named(trio: str) -> TrioLoader:
        known = {loader.trio.name: loader for loader in loaders}
        if trio in ("", None):
            return loaders[0]
        if not isinstance(trio, str) or trio not in known:
            raise PromptError(f"There is no trio {trio!r} here. There are: {', '.join(known)}.")
        return known[trio]

    def answered(request: gr.Request, answers: records.Records) -> records.Records:
        def in_turn() -> records.Records:
            with visitors.line.joined() as places:
                for place in places:
                    yield {"waiting": f"place {place} in the line"}
                yield from answers

        yield from visitors.while_read(request, in_turn())

    def compare(
        request: gr.Request,
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
        task_strength: float = 1.0,
        instruct_strength: float = 1.0,
        trio: str = "",
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        stop_loops: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Send one prompt to a base, a task-tuned and an instruction-tuned variant.

        Args:
            request: who asks, which Gradio says.
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
            task_strength: scale of the task-tuned adapter, from 0 (the base) to 1.5.
            instruct_strength: scale of the instruction-tuned adapter.
            trio: the name of one of the page's; its first, if none is given.
            min_p: least share of the likeliest token's probability; 0 keeps all.
            repetition_penalty: above 1, tokens of prompt and answer become less likely.
            presence_penalty: subtracted from the logits of the answer's tokens.
            frequency_penalty: the same, for each time that they are in it.
            stop_loops: whether an answer ends where it repeats itself.
        """
        with _one_line_errors(), visitors.admitted(request):
            if form not in FORMS:
                raise PromptError(f"There is no form {form!r}. There are: {', '.join(FORMS)}.")
            prompt = prompt_of(text, form, instruction, [] if examples is None else examples)
            sampling = Sampling(
                _bounded(max_new_tokens),
                temperature,
                top_p,
                top_k,
                seed,
                min_p,
                repetition_penalty,
                presence_penalty,
                frequency_penalty,
            )
            given: dict[Role, float] = {"task": task_strength, "instruct": instruct_strength}
            strengths = {role: strength for role, strength in given.items() if strength != 1}
            asked = Request(
                prompt,
                sampling,
                format,
                stop_loops=stop_loops,
                strengths=strengths,
                deadline_s=DEADLINE_S,
            )
            yield from answered(request, records.compare(named(trio), asked))

    def grid(
        request: gr.Request,
        text: str,
        instruction: str = "",
        examples: list[str] | None = None,
        format: Format = "own",
        max_new_tokens: int = 32,
        trio: str = "",
        stop_loops: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Send one input in all three prompt forms to all three variants.

        Args:
            request: who asks, which Gradio says.
            text: the input; without an instruction, the instruction too.
            instruction: an imperative above the input.
            examples: demonstrations, each as `input => output`.
            format: own (each variant in its own format) or same (the same bytes to all).
            max_new_tokens: length limit of each answer.
            trio: the name of one of the page's; its first, if none is given.
            stop_loops: whether an answer ends where it repeats itself.
        """
        with _one_line_errors(), visitors.admitted(request):
            prompts = prompts_of(text, instruction, [] if examples is None else examples)
            sampling = Sampling(_bounded(max_new_tokens))
            yield from answered(
                request, records.grid(named(trio), prompts, format, sampling, stop_loops)
            )

    def lens(
        request: gr.Request,
        text: str,
        format: Format = "same",
        answer_of: Role | None = None,
        position: int | None = None,
        max_new_tokens: int = 32,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        trio: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Tell what each variant expects next, and what every token of a text cost it.

        Args:
            request: who asks, which Gradio says.
            text: a plain text, or with format own an instruction.
            format: same (the same bytes to all) or own (each variant in its own format).
            answer_of: the variant whose answer all read after the text.
            position: the token after which the next ones are told; the last, if none is given.
            max_new_tokens: length limit of that answer.
            temperature: of the sampler whose effect is told; 0 is greedy.
            top_p: mass of the nucleus.
            top_k: 0 keeps the whole vocabulary.
            trio: the name of one of the page's; its first, if none is given.
        """
        with _one_line_errors(), visitors.admitted(request):
            sampling = Sampling(_bounded(max_new_tokens), temperature, top_p, top_k)
            asked = LensRequest(text, format, answer_of, sampling=sampling)
            yield from answered(
                request, records.lens(named(trio), asked, position, visitors.others_answer)
            )

    for endpoint in (compare, grid, lens):
        gr.api(endpoint, api_name=endpoint.__name__)


def _bounded(max_new_tokens: int) -> int:
    """Return a limit of new tokens, if it is within that of the page's slider.

    Raises:
        PromptError: it is above.
    """
    limit = int(RANGES["max_new_tokens"][1])
    if isinstance(max_new_tokens, int) and max_new_tokens > limit:
        raise PromptError(f"max_new_tokens is {max_new_tokens}; here it is at most {limit}.")
    return max_new_tokens


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Convert a `ModelError` to a one-line `gr.Error`, without a traceback in the log."""
    try:
        yield
    except ModelError as error:
        raise gr.Error(short(str(error)), print_exception=False) from error
