"""Builds the Lens tab: next-token distributions and losses of a text under each variant."""

from __future__ import annotations

from typing import Any

import gradio as gr

from models import ROLES, Trio
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import LensExample, gallery_for
from playground.ui.answer_view import ROLE_TITLES
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
from playground.ui.server.visitors import Visitors
from playground.ui.session import Session
from playground.ui.tabs.lens import events, view
from playground.ui.tabs.lens.events import LensFields

_LEDE = (
    '<p class="lede">The same text under all three variants: how likely each token was, what else '
    "was expected there, and where they would have gone another way. Choose a token to see what "
    "comes after it; choose another one there, and all three go on from it.</p>"
)
_ROUNDING = (
    '<p class="lede">All three run in 4 bits, which changes what they say a little. Here the text '
    "above is answered again by the weights as they are stored: what 4 bits change stands beside "
    "what tuning changes. Needs the memory of the unquantised weights for a while.</p>"
)
_TEXT = ("text", "format", "answer_of", "word")


def build_lens_tab(loader: TrioLoader, visitors: Visitors) -> None:
    """Build the tab."""
    static_html(_LEDE)
    parts = _card(loader.trio)
    parts["status"] = line("lens-status")
    parts["notice"] = line("lens-notice")
    parts["lens"] = js_component("lens", view.NOTHING, "lens")
    parts["forks"] = js_component("forks", None, "forks")
    with gr.Accordion(
        "Rounded, or tuned?", open=False, elem_id="rounding-card", elem_classes="card"
    ):
        static_html(_ROUNDING)
        parts["round"] = gr.Button(
            "Compare with unquantised weights", elem_id="rounding-run", scale=0, min_width=200
        )
        parts["rounding"] = js_component("rounding", [], "rounding")
    _wire(Session(loader, visitors), parts)


def _card(trio: Trio) -> Parts:
    parts: Parts = {}
    first, *_ = examples = gallery_for(trio).lens
    with gr.Column(elem_id="lens-card", elem_classes="card"):
        with gr.Row(elem_classes="chips"):
            parts["chips"] = chips((example.name, example) for example in examples)
        parts["text"] = gr.Textbox(
            label="Text", value=first.text, lines=2, max_lines=10, elem_id="lens-text"
        )
        with gr.Row():
            parts["word"] = gr.Textbox(
                label="What would this cost next? (optional)",
                value=first.word,
                max_lines=1,
                elem_id="lens-word",
            )
            parts["answer_of"] = gr.Dropdown(
                [("nobody: the text alone", ""), *((ROLE_TITLES[role], role) for role in ROLES)],
                value="",
                label="All read the answer of",
                elem_id="lens-answer-of",
            )
        with gr.Row(elem_classes="actions"):
            parts |= run_and_stop("Read", "lens")
            parts["format"] = format_choice("lens-format", "same")
        with gr.Accordion("Sampler, and length of answers", open=False):
            static_html(
                '<p class="lede">Bars show the model\'s own probabilities; the mark on each shows '
                "what temperature, top-p and top-k leave of it.</p>"
            )
            with gr.Row():
                parts["temperature"] = gr.Slider(
                    0, 2, value=1, step=0.05, label="Temperature (0 is greedy)", min_width=200
                )
                parts["top_p"] = gr.Slider(
                    0.05, 1, value=0.9, step=0.05, label="Top-p", min_width=200
                )
                parts["top_k"] = gr.Number(
                    value=0, precision=0, label="Top-k (0 keeps all)", min_width=120
                )
                parts["max_new_tokens"] = gr.Slider(
                    1, 128, value=32, step=1, label="Most new tokens", min_width=200
                )
    return parts


def _wire(session: Session, parts: Parts) -> None:
    filled = wire_chips(
        parts["chips"],
        lambda example: filled_with_notice(_fields_of(example), example.notice, parts),
        [parts[name] for name in (*_TEXT, "notice")],
    )
    keep_notice(parts, _TEXT)
    triggers = [parts["run"].click, *filled]
    session.wire_run(triggers, events.read, LensFields, ("lens", "status"), parts)
    triggers, outputs = [parts["round"].click], ("rounding", "status")
    session.wire_run(triggers, events.quantization, LensFields, outputs, parts)
    triggers, outputs = [parts["lens"].select], ("forks", "status")
    session.wire_run(triggers, events.fork, LensFields, outputs, parts, with_data=True)
    session.wire_stop(parts["stop"].click)


def _fields_of(example: LensExample) -> dict[str, Any]:
    values = {name: getattr(example, name) for name in _TEXT}
    return {**values, "answer_of": example.answer_of or ""}
