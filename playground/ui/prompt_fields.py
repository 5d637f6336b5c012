"""Fills a prompt into the fields of Compare, from an example, a link or another tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from models import Form, Prompt
from playground.prompting.gallery import CompareExample
from playground.ui import answer_view
from playground.ui.components import DIRECT, Parts, by_part, notice

FILLED = ("form", "instruction", "input", "input_label", "cue", "table", "shots", "layout",
          "few_shot", "notice")  # fmt: skip
"""Names of the parts that `filled` may change."""

_FIELDS = answer_view.prompt_fields(Prompt("")).keys()


def wire_opening(component: Any, tabs: gr.Tabs, parts: Parts) -> None:
    """Make a component of another tab open a prompt in Compare when it is selected.

    Args:
        component: the component, whose `select` event carries the result of
            `answer_view.prompt_fields`.
        tabs: the page's tabs.
        parts: the parts of Compare.
    """

    def opened(event: gr.EventData) -> Any:
        if not isinstance(event._data, dict) or not _FIELDS <= event._data.keys() <= set(FILLED):
            return gr.skip()  # a browser can send anything
        return {tabs: gr.Tabs(selected="compare"), **filled(parts, event._data)}

    component.select(opened, outputs=[tabs, *(parts[name] for name in FILLED)], **DIRECT)


def filled(parts: Parts, fields: dict[str, Any]) -> Parts:
    """Return the outputs that fill a prompt's fields (`answer_view.prompt_fields`) into Compare."""
    values = dict(fields)
    fields_of_form = shown_fields(values["form"], parts)
    fields_of_form[parts["instruction"]]["value"] = values.pop("instruction")
    return {**by_part(values, parts), **fields_of_form, parts["notice"]: {"kind": "", "text": ""}}


def filled_by(parts: Parts, example: CompareExample) -> Parts:
    """Return the outputs that fill an example into Compare, with its notice."""
    fields = answer_view.prompt_fields(example.prompt)
    return {**filled(parts, fields), parts["notice"]: notice(example.notice, fields)}


def shown_fields(form: Form, parts: Parts) -> Parts:
    """Return the outputs that show the fields of a form and hide the others."""
    return {
        parts["layout"]: gr.update(visible=form != "instruction"),
        parts["few_shot"]: gr.update(visible=form == "few-shot"),
        parts["instruction"]: gr.update(
            visible=form != "zero-shot",
            label="Instruction (optional)" if form == "few-shot" else "Instruction",
        ),
    }
