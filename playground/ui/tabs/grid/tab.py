"""Builds the Grid tab: one input, three prompt forms, three variants."""

from __future__ import annotations

from typing import Any

import gradio as gr

from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import GalleryExample, read_gallery
from playground.ui.components import (
    Parts,
    by_part,
    chips,
    format_choice,
    js_component,
    line,
    run_and_stop,
    static_html,
    wire_chips,
)
from playground.ui.prompt_fields import wire_opening
from playground.ui.server.visitors import Visitors
from playground.ui.session import Session
from playground.ui.tabs.grid import events, view

_LEDE = (
    '<p class="lede">The same input in all three prompt forms, to all three variants: nine answers '
    "in one batch. Read along a row to see what tuning does, down a column to see what the prompt "
    "does.</p>"
)
_SHOWN = ("Sentiment, few-shot", "Base as assistant", "Made-up task")
"""Names of the gallery's examples that suit all three forms."""
_INSTRUCTIONS = {
    "Sentiment, few-shot": "Is this review positive or negative?",
    "Made-up task": "Write the word twice, with an exclamation mark between.",
}


def build_grid_tab(loader: TrioLoader, visitors: Visitors, tabs: gr.Tabs, comparing: Parts) -> None:
    """Build the tab; a cell can be opened in the Compare tab, whose parts are `comparing`."""
    static_html(_LEDE)
    parts = _card()
    parts["status"] = line("grid-status")
    parts["cells"] = js_component("grid", view.grid(None), "cells")
    _wire(Session(loader, visitors), parts)
    wire_opening(parts["cells"], tabs, comparing)


def _card() -> Parts:
    parts: Parts = {}
    first, *_ = examples = [example for example in read_gallery() if example.name in _SHOWN]
    with gr.Column(elem_id="grid-card", elem_classes="card"):
        with gr.Row(elem_classes="chips"):
            named = ((example.name.partition(",")[0], example) for example in examples)
            parts["chips"] = chips(named)
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
            parts |= run_and_stop("Fill the grid", "grid")
            parts["format"] = format_choice("grid-format")
        parts["max_new_tokens"] = gr.Slider(
            1, 128, value=32, step=1, label="Most new tokens", elem_id="grid-tokens"
        )
    return parts


def _wire(session: Session, parts: Parts) -> None:
    names = ("instruction", "input", "input_label", "cue", "table")
    filled = wire_chips(
        parts["chips"],
        lambda example: by_part(_fields_of(example), parts),
        [parts[name] for name in names],
    )
    triggers, outputs = [parts["run"].click, *filled], ("cells", "status")
    session.wire_run(triggers, events.fill_grid, events.GridFields, outputs, parts)
    session.wire_stop(parts["stop"].click)


def _fields_of(example: GalleryExample) -> dict[str, Any]:
    return {
        "instruction": _INSTRUCTIONS.get(example.name, ""),
        "input": example.input,
        "input_label": example.layout.input_label,
        "cue": example.layout.cue,
        "table": [[shot.input, shot.output] for shot in example.demonstrations],
    }
