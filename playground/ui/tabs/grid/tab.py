"""The Grid tab: one input, three prompt forms, three variants. Lays out and wires."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models import Backend, Format, Layout, Sampling
from playground.comparison.grid import Cell, fill, prompts_of
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import GalleryExample, read_gallery
from playground.ui.components import (
    Parts,
    format_choice,
    js_component,
    line,
    static_html,
    to_outputs,
)
from playground.ui.session import Painted, Runs, Wanted, busy, done
from playground.ui.tabs.compare.events import DEADLINE_S, PAINT_S, demonstrations, whole
from playground.ui.tabs.compare.tab import FILLED, opened_in_compare
from playground.ui.tabs.grid import view

_LEDE = (
    '<p class="lede">The same input in all three prompt forms, to all three variants: nine answers '
    "in one batch. Read along a row to see what tuning does, down a column to see what the prompt "
    "does.</p>"
)
_FIELDS = ("instruction", "input", "input_label", "cue", "table", "format", "max_new_tokens")
_SHOWN = ("Sentiment, few-shot", "Base as assistant", "Made-up task")
"""Examples of the gallery that fit all three forms."""
_INSTRUCTIONS = {
    "Sentiment, few-shot": "Is this review positive or negative?",
    "Made-up task": "Write the word twice, with an exclamation mark between.",
}
_PUT = ("instruction", "input", "input_label", "cue", "table")
"""The fields that an example fills."""


@dataclass(frozen=True, slots=True)
class GridFields:
    """What stands in the tab's fields when it is asked."""

    instruction: str
    input: str
    input_label: str
    cue: str
    table: object
    format: Format
    max_new_tokens: float


def build_grid_tab(opening: TrioLoader, tabs: gr.Tabs, comparing: Parts) -> None:
    """Lay the tab out and wire it; a cell can be opened in the Compare tab."""
    static_html(_LEDE)
    parts = _card()
    parts["status"] = line("grid-status")
    parts["cells"] = js_component("grid", view.grid(None), "cells")
    _wire(Runs(opening), parts)

    def opened(event: gr.EventData) -> Parts:
        return opened_in_compare(event._data, tabs, comparing)

    parts["cells"].select(
        opened,
        outputs=[tabs, *(comparing[name] for name in FILLED)],
        show_progress="hidden",
        api_visibility="private",
    )


def _card() -> Parts:
    parts: Parts = {}
    first, *_ = examples = [one for one in read_gallery() if one.name in _SHOWN]
    with gr.Column(elem_id="grid-card", elem_classes="card"):
        with gr.Row(elem_classes="chips"):
            static_html('<p class="chips-label">Try</p>')
            parts["chips"] = [
                (gr.Button(one.name.partition(",")[0], size="sm", elem_classes="chip"), one)
                for one in examples
            ]
        with gr.Row():
            parts["instruction"] = gr.Textbox(
                label="Instruction", value=_INSTRUCTIONS[first.name], lines=2, max_lines=6,
                placeholder="If it is empty, the input is the instruction",
                elem_id="grid-instruction",
            )  # fmt: skip
            parts["input"] = gr.Textbox(
                label="Input", value=first.input, lines=2, max_lines=6, elem_id="grid-input"
            )
        with gr.Accordion("Layout and demonstrations", open=False):
            with gr.Row():
                parts["input_label"] = gr.Textbox(
                    label="Label of the input", value=first.layout.input_label
                )
                parts["cue"] = gr.Textbox(label="Cue", value=first.layout.cue)
            rows = [[shot.input, shot.output] for shot in first.demonstrations]
            parts["table"] = js_component("table", rows, "grid-demonstrations")
        with gr.Row(elem_classes="actions"):
            parts["run"] = gr.Button(
                "Fill the grid", variant="primary", elem_id="grid-run", scale=0, min_width=200
            )
            parts["stop"] = gr.Button("Stop", elem_id="grid-stop", scale=0, min_width=110)
            parts["format"] = format_choice("grid-format")
        parts["max_new_tokens"] = gr.Slider(
            1, 128, value=32, step=1, label="Most new tokens", elem_id="grid-tokens"
        )
    return parts


def _wire(wired: Runs, parts: Parts) -> None:
    def run(request: gr.Request, *values: Any) -> Iterator[Parts]:
        yield from to_outputs(
            wired.run(str(request.session_hash), work(GridFields(*values))), parts
        )

    quiet: Parts = {"show_progress": "hidden", "api_visibility": "private"}
    running: Parts = {
        "inputs": [parts[name] for name in _FIELDS],
        "outputs": [parts["cells"], parts["status"]],
        "trigger_mode": "multiple",
        "concurrency_limit": None,
        **quiet,
    }
    parts["run"].click(run, **running)
    for button, example in parts.pop("chips"):
        put = button.click(
            lambda example=example: {parts[name]: v for name, v in _filled(example).items()},
            outputs=[
                parts[name] for name in ("instruction", "input", "input_label", "cue", "table")
            ],
            **quiet,
        )
        put.then(run, **running)

    def stop(request: gr.Request) -> None:
        wired.stop(str(request.session_hash))

    parts["stop"].click(stop, concurrency_limit=None, **quiet)


def _filled(example: GalleryExample) -> dict[str, Any]:
    return {
        "instruction": _INSTRUCTIONS.get(example.name, ""),
        "input": example.input,
        "input_label": example.layout.input_label,
        "cue": example.layout.cue,
        "table": [[shot.input, shot.output] for shot in example.demonstrations],
    }


def work(fields: GridFields) -> Callable[[Backend, Wanted], Generator[Painted]]:
    """Return what asks for nine answers and yields the grid as they grow."""

    def filled(trio: Backend, wanted: Wanted) -> Generator[Painted]:
        prompts = prompts_of(
            fields.input,
            fields.instruction,
            demonstrations(fields.table),
            Layout(fields.input_label, fields.cue),
        )
        sampling = Sampling(whole("Most new tokens", fields.max_new_tokens))
        everything: list[Cell] = [(form, v.role) for form in prompts for v in trio.trio.variants]
        painted, grid = 0.0, None
        with closing(fill(trio, prompts, sampling, fields.format, DEADLINE_S)) as states:
            try:
                grid = next(states)
                while True:
                    if time.monotonic() - painted >= PAINT_S:
                        painted = time.monotonic()
                        yield {"cells": view.grid(grid, prompts), **busy("Answering")}
                    grid = states.send(None if wanted() else everything)
            except StopIteration:
                pass
        if grid:
            yield {
                "cells": view.grid(grid, prompts),
                **done(view.finished(grid, prompts)),
            }

    return filled
