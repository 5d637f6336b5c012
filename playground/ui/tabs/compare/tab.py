"""The Compare tab: one prompt, three columns. Lays out and wires."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from models import FORMS, Form, Sampling, Trio, Weights
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.gallery import GalleryExample, read_gallery
from playground.prompting.links import RANGES
from playground.ui import answer_view, modules, share_link
from playground.ui.components import (
    Parts,
    format_choice,
    js_component,
    line,
    static_html,
)
from playground.ui.session import QUIET, Session
from playground.ui.tabs.compare import events

_FIELDS = (
    "form", "instruction", "input", "input_label", "cue", "table", "shots", "format",
    "max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop_texts",
    "task_strength", "instruct_strength",
)  # fmt: skip
_PROMPT = ("form", "instruction", "input", "input_label", "cue", "table")
"""The fields that make the prompt; how many demonstrations are shown is left to try out."""


def build_compare_tab(loader: TrioLoader) -> Parts:
    """Lay the tab out, wire it, and return its parts."""
    trio, loading = loader.trio, line("loading")
    parts = {**_prompt_card(trio), "ledger": js_component("ledger", NOTHING, "ledger")}
    parts |= {"status": line("status"), "loading": loading}
    chips = parts.pop("chips")
    parts |= _columns(trio)
    parts["notice"] = line("notice")
    _wire(loader, parts, chips)
    return parts


NOTHING: Parts = {"columns": [], "findings": []}


def _prompt_card(trio: Trio) -> Parts:
    parts: Parts = {}
    with gr.Column(elem_id="prompt-card", elem_classes="card"):
        with gr.Row(elem_id="gallery"):
            static_html('<p class="chips-label" id="try">Try</p>')
            parts["chips"] = [
                (gr.Button(one.name, size="sm", elem_classes="chip"), one) for one in read_gallery()
            ]
        parts["form"] = gr.Radio(
            [(form.capitalize(), form) for form in FORMS],
            value="instruction",
            label="Prompt form",
            elem_id="form",
        )
        with gr.Row():
            parts["instruction"] = gr.Textbox(
                label="Instruction", value="Tell me a joke", lines=2, max_lines=8,
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
    """Sliders for the variants that are an adapter on a base."""
    tuned = {
        one.role: one.name
        for one in trio.variants
        if isinstance(one.source, Weights) and one.source.adapter
    }
    with gr.Accordion("Strength of the tuning", open=False, visible=bool(tuned)):
        static_html(
            '<p class="lede">How much of its adapter a variant carries: 0 is the base to the last '
            "bit, 1 as it was trained.</p>"
        )
        with gr.Row():
            return {
                f"{role}_strength": gr.Slider(
                    *RANGES[f"{role}_strength"], value=1, step=0.05, visible=role in tuned,
                    label=f"{answer_view.ROLE_TITLES[role]}: {tuned.get(role, '')}", min_width=200,
                    elem_id=f"{role}-strength",
                )
                for role in ("task", "instruct")
            }  # fmt: skip


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
        parts["shots"] = gr.Slider(
            *RANGES["shots"],
            value=RANGES["shots"][1],
            step=1,
            label="Shots: how many of the rows are shown",
            elem_id="shots",
        )
    return parts


def _sampling_fields() -> Parts:
    parts: Parts = {}
    usual = Sampling()
    with gr.Accordion("Sampling and stop rules", open=False):
        with gr.Row():
            parts["max_new_tokens"] = gr.Slider(
                *RANGES["max_new_tokens"],
                value=usual.max_new_tokens,
                step=1,
                label="Most new tokens",
                min_width=240,
            )
            parts["temperature"] = gr.Slider(
                *RANGES["temperature"],
                value=usual.temperature,
                step=0.05,
                label="Temperature (0 is greedy)",
                min_width=240,
            )
            parts["top_p"] = gr.Slider(
                *RANGES["top_p"], value=usual.top_p, step=0.05, label="Top-p", min_width=240
            )
        with gr.Row():
            parts["top_k"] = gr.Number(
                value=usual.top_k, precision=0, label="Top-k (0 keeps all)", min_width=120
            )
            parts["seed"] = gr.Number(value=usual.seed, precision=0, label="Seed", min_width=120)
            parts["stop_texts"] = gr.Checkbox(
                value=True,
                label="Cut a text answer where the layout would begin again",
                elem_id="stop-texts",
            )
    return parts


def _columns(trio: Trio) -> Parts:
    parts: Parts = {}
    links = "".join(
        f'<a href="#column-{v.role}">{answer_view.ROLE_TITLES[v.role]}</a>' for v in trio.variants
    )
    static_html(f'<nav class="jump" aria-label="Columns">{links}</nav>', "jump")
    with gr.Row(elem_id="columns", equal_height=True):
        for variant in trio.variants:
            role = variant.role
            with gr.Column(elem_id=f"column-{role}", elem_classes=["variant", role], min_width=280):
                parts[f"{role}_head"] = gr.HTML(
                    html_template='<h2 class="column-title">${value.title}</h2>'
                    '<p class="column-model">${value.model}</p>'
                    '<p class="column-lesson">${value.lesson}</p>',
                    value=_safe(
                        title=answer_view.ROLE_TITLES[role],
                        model=f"{variant.name} · {trio.precision}",
                        lesson=answer_view.ROLE_LESSONS[role],
                    ),
                    js_on_load=None,
                    apply_default_css=False,
                )
                parts[role] = js_component("pane", answer_view.pane(None))
    return parts


def _safe(**texts: str) -> dict[str, str]:
    return {name: escape(text) for name, text in texts.items()}


def _wire(loader: TrioLoader, parts: Parts, chips: list[tuple[gr.Button, GalleryExample]]) -> None:
    session = Session(loader)
    triggers = [parts["compare"].click]
    for button, example in chips:
        put = button.click(
            lambda example=example: filled(
                answer_view.prompt_fields(example.prompt), parts, example.notice
            ),
            outputs=[parts[name] for name in FILLED],
            **QUIET,
        )
        triggers.append(put.then)
    session.wire_run(
        triggers,
        lambda *values: events.compare(events.CompareFields(*values)),
        [parts[name] for name in _FIELDS],
        (*answer_view.ROLE_TITLES, "status"),
        parts,
    )
    session.wire_stop(parts["stop"].click)
    for role in answer_view.ROLE_TITLES:
        session.wire_stop(parts[role].stop, [role])
    _wire_fields(loader, parts)
    share_link.wire(
        parts["link"],
        {name: parts[name] for name in _FIELDS},
        parts["status"],
        lambda values: filled(values, parts),
        [parts[name] for name in dict.fromkeys((*_FIELDS, *FILLED))],
    )


FILLED = ("form", "instruction", "input", "input_label", "cue", "table", "shots", "layout",
          "few_shot", "notice")  # fmt: skip
"""The parts that `filled` may change."""


def filled(fields: dict[str, Any], parts: Parts, notice: str = "") -> Parts:
    """Return what puts a prompt's fields (`answer_view.prompt_fields`) into the tab."""
    values = dict(fields)
    shown = _shown(values["form"], parts)
    shown[parts["instruction"]]["value"] = values.pop("instruction")
    return {
        **{parts[name]: value for name, value in values.items()},
        **shown,
        parts["notice"]: _note(notice, fields) if notice else {"kind": "", "text": ""},
    }


def opened_in_compare(fields: dict[str, Any], tabs: gr.Tabs, parts: Parts) -> Parts:
    """Return what opens this tab with a prompt's fields."""
    return {tabs: gr.Tabs(selected="compare"), **filled(fields, parts)}


def _note(text: str, of: Parts) -> Parts:
    return {"kind": "notice", "text": f"What to notice: {text}", "of": of}


def _shown(form: Form, parts: Parts) -> Parts:
    """Return the visibility of the fields that only some forms have."""
    return {
        parts["layout"]: gr.update(visible=form != "instruction"),
        parts["few_shot"]: gr.update(visible=form == "few-shot"),
        parts["instruction"]: gr.update(
            visible=form != "zero-shot",
            label="Instruction (optional)" if form == "few-shot" else "Instruction",
        ),
    }


def _wire_fields(loader: TrioLoader, parts: Parts) -> None:
    parts["form"].input(
        lambda form: _shown(form, parts),
        inputs=parts["form"],
        outputs=[parts["layout"], parts["few_shot"], parts["instruction"]],
        **QUIET,
    )
    gr.on(
        [parts[name].change for name in (*_FIELDS, "loading")],
        lambda *values: events.preview(loader, events.CompareFields(*values)),
        inputs=[parts[name] for name in _FIELDS],
        outputs=parts["ledger"],
        trigger_mode="always_last",
        **QUIET,
    )
    gr.on(
        [parts[name].change for name in _PROMPT],
        None,
        inputs=[parts[name] for name in ("notice", *_PROMPT)],
        outputs=parts["notice"],
        js=modules.listener("notice", "keepNotice", _PROMPT),
        **QUIET,
    )
    timer = gr.Timer(0.5)

    def tick() -> Parts:
        status, ended = events.loading(loader)
        return {parts["loading"]: status, timer: gr.Timer(active=not ended)}

    timer.tick(tick, outputs=[parts["loading"], timer], **QUIET)
