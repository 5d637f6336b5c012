"""Builds the Compare tab: one prompt, three columns. Creates and wires its parts."""

from __future__ import annotations

import dataclasses
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from models import FORMS, Sampling, Trio, Weights
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import gallery_for
from playground.prompting.links import RANGES
from playground.ui import answer_view, prompt_fields, share_link
from playground.ui.answer_view import ROLE_LESSONS, ROLE_TITLES
from playground.ui.components import (
    DIRECT,
    Parts,
    chips,
    format_choice,
    inputs_of,
    js_component,
    keep_notice,
    line,
    static_html,
    wire_chips,
)
from playground.ui.server.visitors import Visitors
from playground.ui.session import Session
from playground.ui.tabs.compare import events
from playground.ui.tabs.compare.events import CompareFields

_PROMPT = ("form", "instruction", "input", "input_label", "cue", "table")
"""The fields whose change removes an example's notice; the number of shots may be varied."""


def build_compare_tab(loader: TrioLoader, visitors: Visitors) -> Parts:
    """Build the tab, and return its parts."""
    loading = line("loading")
    parts = _prompt_card(loader.trio)
    parts["ledger"] = js_component(
        "ledger", {"columns": [], "findings": [], "settings": ""}, "ledger"
    )
    parts |= {"status": line("status"), "loading": loading, "notice": line("notice")}
    parts |= _columns(loader.trio)
    _wire(loader, visitors, parts)
    return parts


def _prompt_card(trio: Trio) -> Parts:
    parts: Parts = {}
    first, *_ = examples = gallery_for(trio).compare
    with gr.Column(elem_id="prompt-card", elem_classes="card"):
        with gr.Row(elem_id="gallery"):
            parts["chips"] = chips((example.name, example) for example in examples)
        parts["form"] = gr.Radio(
            [(form.capitalize(), form) for form in FORMS],
            value="instruction",
            label="Prompt form",
            elem_id="form",
        )
        with gr.Row():
            parts["instruction"] = gr.Textbox(
                label="Instruction", value=first.instruction, lines=2, max_lines=8,
                elem_id="instruction", placeholder="What the models are to do",
            )  # fmt: skip
            parts["input"] = gr.Textbox(
                label="Input", lines=2, max_lines=8, elem_id="input",
                placeholder="The text to do it with; may stay empty in the instruction form",
            )  # fmt: skip
        parts |= _layout_fields()
        with gr.Row(elem_id="actions", elem_classes="actions"):
            parts["compare"] = gr.Button(
                "Compare", variant="primary", elem_id="compare", scale=0, min_width=200
            )
            parts["stop"] = gr.Button("Stop", elem_id="stop", scale=0, min_width=110)
            parts["link"] = gr.Button("Copy link", elem_id="link", scale=0, min_width=110)
            parts["format"] = format_choice("format")
        parts |= _sampling_fields()
        parts |= _strengths(trio)
    return parts


def _strengths(trio: Trio) -> Parts:
    """Create the strength sliders, visible for variants that have an adapter."""
    tuned = {
        variant.role: variant.name
        for variant in trio.variants
        if isinstance(variant.source, Weights) and variant.source.adapter
    }
    with gr.Accordion("Strength of the tuning", open=False, visible=bool(tuned)):
        static_html(
            '<p class="lede">How much of its adapter a variant carries: 0 is the base to the last '
            "bit, 1 as it was trained.</p>"
        )
        with gr.Row():
            return {
                f"{role}_strength": _slider(
                    f"{role}_strength", 1, 0.05, f"{ROLE_TITLES[role]}: {tuned.get(role, '')}",
                    visible=role in tuned, min_width=200, elem_id=f"{role}-strength",
                )
                for role in ("task", "instruct")
            }  # fmt: skip


def _slider(name: str, value: float, step: float, label: str, **look: Any) -> gr.Slider:
    """Create the slider of a field, over the same range as links allow."""
    return gr.Slider(*RANGES[name], value=value, step=step, label=label, **look)


def _layout_fields() -> Parts:
    parts: Parts = {}
    with gr.Row(visible=False) as parts["layout"]:
        parts["input_label"] = gr.Textbox(
            label="Label of the input", value="Input", elem_id="input-label"
        )
        parts["cue"] = gr.Textbox(label="Cue", value="Output", elem_id="cue")
    with gr.Column(visible=False) as parts["few_shot"]:
        parts["table"] = js_component(
            "table", [["sun", "sol"], ["moon", "luna"], ["water", "agua"]], "demonstrations"
        )
        label = "Shots: how many of the rows are shown"
        parts["shots"] = _slider("shots", RANGES["shots"][1], 1, label, elem_id="shots")
    return parts


def _sampling_fields() -> Parts:
    parts: Parts = {}
    usual = Sampling()
    with gr.Accordion("Sampling and stop rules", open=False):
        with gr.Row():
            for name, step, label in (
                ("max_new_tokens", 1, "Most new tokens"),
                ("temperature", 0.05, "Temperature (0 is greedy)"),
                ("top_p", 0.05, "Top-p"),
                ("min_p", 0.01, "Min-p"),
                ("repetition_penalty", 0.05, "Repetition penalty (1 is none)"),
                ("presence_penalty", 0.1, "Presence penalty"),
                ("frequency_penalty", 0.1, "Frequency penalty"),
            ):
                parts[name] = _slider(name, getattr(usual, name), step, label, min_width=240)
        with gr.Row():
            parts["top_k"] = gr.Number(
                value=usual.top_k, precision=0, label="Top-k (0 keeps all)", min_width=120
            )
            parts["seed"] = gr.Number(value=usual.seed, precision=0, label="Seed", min_width=120)
        with gr.Row():
            for name, label in (
                ("stop_texts", "Cut a text answer where the layout would begin again"),
                ("stop_loops", "End an answer that repeats itself"),
            ):
                parts[name] = gr.Checkbox(value=True, label=label, elem_id=name.replace("_", "-"))
    return parts


def _columns(trio: Trio) -> Parts:
    parts: Parts = {}
    links = "".join(f'<a href="#column-{v.role}">{ROLE_TITLES[v.role]}</a>' for v in trio.variants)
    static_html(f'<nav class="jump" aria-label="Columns">{links}</nav>', "jump")
    with gr.Row(elem_id="columns", equal_height=True):
        for variant in trio.variants:
            role = variant.role
            with gr.Column(elem_id=f"column-{role}", elem_classes=["variant", role], min_width=280):
                gr.HTML(
                    html_template='<h2 class="column-title">${value.title}</h2>'
                    '<p class="column-model">${value.model}</p>'
                    '<p class="column-lesson">${value.lesson}</p>',
                    value=_safe(
                        title=ROLE_TITLES[role],
                        model=f"{variant.name} · {trio.precision}",
                        lesson=ROLE_LESSONS[role],
                    ),
                    js_on_load=None,
                    apply_default_css=False,
                )
                parts[role] = js_component("pane", answer_view.pane(None))
    return parts


def _safe(**texts: str) -> dict[str, str]:
    return {name: escape(text) for name, text in texts.items()}


def _wire(loader: TrioLoader, visitors: Visitors, parts: Parts) -> None:
    session = Session(loader, visitors)
    outputs = [parts[name] for name in prompt_fields.FILLED]
    session.wire_run(
        [
            parts["compare"].click,
            *wire_chips(parts["chips"], partial(prompt_fields.filled_by, parts), outputs),
        ],
        events.compare,
        CompareFields,
        (*ROLE_TITLES, "status"),
        parts,
    )
    session.wire_stop(parts["stop"].click)
    for role in ROLE_TITLES:
        session.wire_stop(parts[role].stop, [role])
    _wire_fields(loader, parts)
    named = {field.name: parts[field.name] for field in dataclasses.fields(CompareFields)}
    filled = list(dict.fromkeys([*named.values(), *outputs]))
    share_link.wire(
        parts["link"], named, parts["status"], partial(prompt_fields.filled, parts), filled
    )


def _wire_fields(loader: TrioLoader, parts: Parts) -> None:
    inputs = inputs_of(CompareFields, parts)
    parts["form"].input(
        lambda form: prompt_fields.shown_fields(form, parts),
        inputs=parts["form"],
        outputs=[parts["layout"], parts["few_shot"], parts["instruction"]],
        **DIRECT,
    )
    gr.on(
        [part.change for part in (*inputs, parts["loading"])],
        lambda *values: events.preview(loader, CompareFields(*values)),
        inputs=inputs,
        outputs=parts["ledger"],
        trigger_mode="always_last",
        **DIRECT,
    )
    keep_notice(parts, _PROMPT)
    timer = gr.Timer(0.5)

    def tick() -> Parts:
        status, ended = events.loading(loader)
        return {parts["loading"]: status, timer: gr.Timer(active=not ended)}

    timer.tick(tick, outputs=[parts["loading"], timer], **DIRECT)
