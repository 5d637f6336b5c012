"""Builds the Evaluate tab: a table over labelled tasks, prompt forms and variants."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from models import FORMS, PromptError
from playground.comparison.trio_loader import TrioLoader
from playground.evaluation.tabular import columns_of
from playground.evaluation.task import shipped_tasks
from playground.ui.components import (
    DIRECT,
    Parts,
    by_part,
    js_component,
    line,
    run_and_stop,
    static_html,
)
from playground.ui.prompt_fields import wire_opening
from playground.ui.server.uploads import KINDS
from playground.ui.server.visitors import Visitors
from playground.ui.session import Session
from playground.ui.tabs.evaluate import view
from playground.ui.tabs.evaluate.events import (
    LEAST,
    MOST,
    MOST_OWN,
    EvaluateFields,
    fields_of_saved,
    run_evaluation,
)
from playground.ui.work import cleared, failed

_FIRST = ["domain", "sentiment", "plural"]
"""Tasks that are initially chosen: one that was tuned on, one with labels, one without."""
_LEDE = (
    '<p class="lede">Samples whose answers are known, asked of all three variants in every prompt '
    "form. <b>Held-out</b> tasks are of a kind that no data set in tuning has.</p>"
)


def build_evaluate_tab(
    loader: TrioLoader, visitors: Visitors, tabs: gr.Tabs, comparing: Parts
) -> None:
    """Build the tab; an item can be opened in the Compare tab, whose parts are `comparing`."""
    static_html(_LEDE)
    parts = _card()
    parts["status"] = line("evaluate-status")
    parts["results"] = js_component("evaluate", view.evaluation(None), "results")
    _wire(Session(loader, visitors), parts)
    wire_opening(parts["results"], tabs, comparing)


def _card() -> Parts:
    parts: Parts = {}
    with gr.Column(elem_id="evaluate-card", elem_classes="card"):
        tasks = shipped_tasks().values()
        parts["tasks"] = gr.CheckboxGroup(
            [(f"{task.title}{' · held-out' * bool(task.held_out)}", task.name) for task in tasks],
            value=_FIRST,
            label="Tasks",
            elem_id="evaluate-tasks",
        )
        parts["forms"] = gr.CheckboxGroup(
            [(form.capitalize(), form) for form in FORMS],
            value=list(FORMS),
            label="Prompt forms",
            elem_id="evaluate-forms",
        )
        parts["limit"] = gr.Slider(
            LEAST, MOST, value=8, step=4, label="Items of each task", elem_id="evaluate-limit"
        )
        # The plan checks it: Gradio would, by a greatest value that it forgets with the session.
        parts["limit"].preprocess = lambda limit: limit
        with gr.Accordion("Your own set", open=False):
            static_html(
                '<p class="lede">CSV with a line of column names, or JSON, in UTF-8, up to '
                "8 MB. It is asked instead of the tasks above; its first four rows become the "
                "demonstrations of few-shot prompts.</p>"
            )
            parts["file"] = gr.File(
                label="File",
                file_types=list(KINDS),
                type="filepath",
                height=110,
                elem_id="own-file",
            )
            with gr.Row():
                # Other values than the choices are taken, for Gradio may have forgotten these.
                parts["input_column"], parts["label_column"] = (
                    gr.Dropdown(
                        [],
                        label=f"Column of the {name}",
                        elem_id=f"own-{name}",
                        allow_custom_value=True,
                    )
                    for name in ("input", "label")
                )
            parts["instruction"] = gr.Textbox(
                label="Instruction", placeholder="One that names the labels, if left empty"
            )
        with gr.Accordion("Go on from earlier results", open=False):
            static_html(
                '<p class="lede">The JSON of an evaluation that was stopped, downloaded here. What '
                "it holds is not asked again. Choose a set of your own once more, above.</p>"
            )
            parts["earlier"] = gr.File(
                label="Results",
                file_types=[".json"],
                type="filepath",
                height=110,
                elem_id="earlier-results",
            )
        with gr.Row(elem_classes="actions"):
            parts |= run_and_stop("Evaluate", "evaluate")
    return parts


def _wire(session: Session, parts: Parts) -> None:
    outputs = ("results", "status")
    session.wire_run([parts["run"].click], run_evaluation, EvaluateFields, outputs, parts)
    session.wire_stop(parts["stop"].click)

    def columns(path: str | None, limit: float) -> Parts:
        names, rows, status = list[str](), 0, cleared()["status"]
        try:
            if path:
                names, rows = columns_of(Path(path))
        except PromptError as error:
            status = failed(error)["status"]
        first, last = (names[0], names[-1]) if names else (None, None)
        most = max(MOST, min(rows, MOST_OWN))
        return {
            parts["limit"]: gr.Slider(value=min(limit, most), maximum=most),
            parts["input_column"]: gr.Dropdown(names, value=first),
            parts["label_column"]: gr.Dropdown(names, value=last),
            parts["status"]: status,
        }

    parts["file"].change(
        columns,
        inputs=[parts["file"], parts["limit"]],
        outputs=[parts[name] for name in ("input_column", "label_column", "limit", "status")],
        **DIRECT,
    )

    def chosen(path: str | None) -> Parts:
        try:
            values = {**(fields_of_saved(path) if path else {}), **cleared()}
        except PromptError as error:
            values = failed(error)
        if limit := values.pop("limit", None):
            values["limit"] = gr.Slider(value=limit, maximum=max(MOST, limit))
        return by_part(values, parts)

    parts["earlier"].change(
        chosen,
        inputs=parts["earlier"],
        outputs=[parts[name] for name in ("tasks", "forms", "limit", "file", "status")],
        **DIRECT,
    )
