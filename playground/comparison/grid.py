"""The grid: one input in three prompt forms to three variants, nine answers in one batch."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any

from models import (
    GREEDY,
    Backend,
    Demonstration,
    Form,
    Format,
    Layout,
    Prompt,
    Request,
    Role,
    Sampling,
    merge_streams,
)
from playground.comparison.badges import badge
from playground.comparison.compare import Answers, begin, demonstrations_of, follow
from playground.comparison.records import answer_record
from playground.prompting.forms import make_prompt
from playground.prompting.gallery import ASSISTANT

Cell = tuple[Form, Role]
Grid = dict[Form, Answers]


def prompts_of(
    text: str,
    instruction: str = "",
    examples: Iterable[str | Demonstration] = (),
    layout: Layout | None = None,
) -> dict[Form, Prompt]:
    """Make the prompts of one input in all three forms.

    Args:
        text: the input; if there is no instruction, also the instruction of the instruction form.
        instruction: an imperative, used in the instruction form only.
        examples: demonstrations, as values or as `input => output`; if there are none, those of
            `ASSISTANT`, which make a base behave like an assistant.
        layout: label of the input, and cue; None is the default, or the layout of `ASSISTANT`
            along with its demonstrations.

    Raises:
        PromptError: a field is empty or invalid.
    """
    shots = demonstrations_of(examples)
    if not shots:
        shots, layout = list(ASSISTANT.demonstrations), layout or ASSISTANT.layout
    own = (instruction, text) if instruction else (text, "")
    return {
        "instruction": make_prompt("instruction", instruction=own[0], input=own[1]),
        "zero-shot": make_prompt("zero-shot", input=text, layout=layout),
        "few-shot": make_prompt("few-shot", input=text, demonstrations=shots, layout=layout),
    }


def fill(
    trio: Backend,
    prompts: Mapping[Form, Prompt],
    sampling: Sampling = GREEDY,
    format: Format = "own",
    deadline_s: float | None = None,
    stop_loops: bool = False,
) -> Generator[Grid, Collection[Cell] | None, None]:
    """Yield the nine answers as they grow; cells sent into the generator are cancelled.

    The three comparisons run at the same time, so that their rows share every step. Closing the
    generator cancels them all.

    Args:
        trio: the trio that answers.
        prompts: one input in all three forms.
        sampling: settings for all nine answers.
        format: each variant in its own format, or the same bytes to all.
        deadline_s: seconds after which answers are cut off.
        stop_loops: whether an answer ends where it repeats itself.

    Raises:
        PromptError: a prompt cannot be encoded; nothing has run.
    """
    requests = {
        form: Request(prompt, sampling, format, deadline_s=deadline_s, stop_loops=stop_loops)
        for form, prompt in prompts.items()
    }
    grid = {form: begin(trio, request) for form, request in requests.items()}
    streams = merge_streams(
        {form: follow(answers, trio.stream(requests[form])) for form, answers in grid.items()}
    )
    with closing(streams):
        stopped: Collection[Cell] | None = None
        while True:
            try:
                form, grown = streams.send(stopped)
            except StopIteration:
                return
            grid = {**grid, form: grown}
            stopped = yield grid


def grid_record(prompts: Mapping[Form, Prompt], grid: Grid) -> dict[str, Any]:
    """Return nine finished answers as JSON-ready values."""
    return {
        "cells": {
            form: {
                role: {**answer_record(answer), "badge": badge(answer, prompts[form])}
                for role, answer in answers.items()
            }
            for form, answers in grid.items()
        }
    }
