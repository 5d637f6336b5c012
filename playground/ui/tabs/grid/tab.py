"""Builds the Grid tab: one input, three prompt forms, three variants."""

from __future__ import annotations

from typing import Any

import gradio as gr

from models import Trio
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import GridExample, gallery_for
from playground.ui.components import (
    Parts,
    chips,
    filled_with_notice,
    format_choice,
    js_component,
    keep_notice,
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
_PROMPT = ("instruction", "input", "input_label", "cue", "table")


def build_grid_tab(loader: TrioLoader, visitors: Visitors, tabs: gr.Tabs, comparing: Parts) -> None:
    """Build the tab; a cell can be opened in the Compare tab, whose parts are `comparing`."""
    static_html(_LEDE)
    parts = _card(loader.trio)
    parts["status"] = line("grid-status")
    parts["notice"] = line("grid-notice")
    parts["cells"] = js_component("grid", view.grid(None), "cells")
    _wire(Session(loader, visitors), parts)
    wire_opening(parts["cells"], tabs, comparing)


def _card(trio: Trio) -> Parts:
    parts: Parts = {}
    first, *_ = examples = gallery_for(trio).grid
    with gr.Column(elem_id="grid-card", elem_classes="card"):
        with gr.Row(elem_classes="chips"):
            parts["chips"] = chips((example.name, example) for example in examples)
        with gr.Row():
            parts["instruction"] = gr.Textbox(
                label="Instruction", value=first.instruction, lines=2, max_lines=6,
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
        with gr.Row():
            parts["max_new_tokens"] = gr.Slider(
                1,
                128,
                value=32,
                step=1,
                label="Most new tokens",
                elem_id="grid-tokens",
                min_width=240,
            )
            parts["stop_loops"] = gr.Checkbox(
                value=True,
                label="End an answer that repeats itself",
                elem_id="grid-stop-loops",
                min_width=240,
            )
    return parts


def _wire(session: Session, parts: Parts) -> None:
    filled = wire_chips(
        parts["chips"],
        lambda example: filled_with_notice(_fields_of(example), example.notice, parts),
        [parts[name] for name in (*_PROMPT, "notice")],
    )
    keep_notice(parts, _PROMPT)
    triggers, outputs = [parts["run"].click, *filled], ("cells", "status")
    session.wire_run(triggers, events.fill_grid, events.GridFields, outputs, parts)
    session.wire_stop(parts["stop"].click)


def _fields_of(example: GridExample) -> dict[str, Any]:
    return {
        "instruction": example.instruction,
        "input": example.input,
        "input_label": example.layout.input_label,
        "cue": example.layout.cue,
        "table": [[shot.input, shot.output] for shot in example.demonstrations],
    }
