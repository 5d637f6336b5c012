"""The Grid tab: one input, three prompt forms, three variants. Lays out and wires."""

from __future__ import annotations

from typing import Any

import gradio as gr

from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import GalleryExample, read_gallery
from playground.ui.components import Parts, format_choice, js_component, line, static_html
from playground.ui.session import QUIET, Session
from playground.ui.tabs.compare.tab import FILLED, opened_in_compare
from playground.ui.tabs.grid import events, view

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


def build_grid_tab(loader: TrioLoader, tabs: gr.Tabs, comparing: Parts) -> None:
    """Lay the tab out and wire it; a cell can be opened in the Compare tab."""
    static_html(_LEDE)
    parts = _card()
    parts["status"] = line("grid-status")
    parts["cells"] = js_component("grid", view.grid(None), "cells")
    _wire(Session(loader), parts)

    def opened(event: gr.EventData) -> Parts:
        return opened_in_compare(event._data, tabs, comparing)

    parts["cells"].select(
        opened,
        outputs=[tabs, *(comparing[name] for name in FILLED)],
        **QUIET,
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


def _wire(session: Session, parts: Parts) -> None:
    triggers = [parts["run"].click]
    for button, example in parts.pop("chips"):
        values = _fields_of(example)
        put = button.click(
            lambda values=values: {parts[name]: value for name, value in values.items()},
            outputs=[parts[name] for name in values],
            **QUIET,
        )
        triggers.append(put.then)
    session.wire_run(
        triggers,
        lambda *values: events.fill_grid(events.GridFields(*values)),
        [parts[name] for name in _FIELDS],
        ("cells", "status"),
        parts,
    )
    session.wire_stop(parts["stop"].click)


def _fields_of(example: GalleryExample) -> dict[str, Any]:
    return {
        "instruction": _INSTRUCTIONS.get(example.name, ""),
        "input": example.input,
        "input_label": example.layout.input_label,
        "cue": example.layout.cue,
        "table": [[shot.input, shot.output] for shot in example.demonstrations],
    }
