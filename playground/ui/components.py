"""Components that several tabs are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from models import Format
from playground.ui import modules

Parts = dict[str, Any]
"""Components by their names; or values by their components, as Gradio takes them."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Settings of every event of the page: no overlay of Gradio's, no endpoint."""
Example = TypeVar("Example")
_STATIC = Path(__file__).parent / "static"


def to_outputs(painted: Iterable[Mapping[str, Any]], parts: Parts) -> Iterator[Any]:
    """Yield what is painted as Gradio takes it: new values by their components.

    A value that paints nothing comes last, since Gradio sends the last one twice, the second time
    when another run may paint the same parts.
    """
    for values in painted:
        yield by_part(values, parts)
    yield gr.skip()


def by_part(values: Mapping[str, Any], parts: Parts) -> Parts:
    """Return values by their components, whose names they are given by."""
    return {parts[name]: value for name, value in values.items()}


def inputs_of(fields: Any, parts: Parts) -> list[Any]:
    """Return the parts that hold the fields of a dataclass, in its order."""
    return [parts[field.name] for field in dataclasses.fields(fields)]


def chips(examples: Iterable[tuple[str, Example]]) -> list[tuple[gr.Button, Example]]:
    """Return a button for each example, given with its name."""
    static_html('<p class="chips-label">Try</p>')
    return [
        (gr.Button(name, size="sm", elem_classes="chip"), example) for name, example in examples
    ]


def wire_chips(
    chips: Iterable[tuple[gr.Button, Example]], fill: Callable[[Example], Parts], outputs: list[Any]
) -> list[Callable[..., Any]]:
    """Have each chip put its example into the fields; return the events that follow."""
    return [
        button.click(partial(fill, example), outputs=outputs, **QUIET).then
        for button, example in chips
    ]


def run_and_stop(run: str, elem_id: str) -> Parts:
    """Return the buttons that start and stop a tab's run."""
    return {
        "run": gr.Button(run, variant="primary", elem_id=f"{elem_id}-run", scale=0, min_width=200),
        "stop": gr.Button("Stop", elem_id=f"{elem_id}-stop", scale=0, min_width=110),
    }


def js_component(name: str, value: Any, elem_id: str | None = None) -> gr.HTML:
    """Return a component whose value is painted by `js/NAME.js` into the static `NAME.html`.

    No value ever becomes markup: what a model or a visitor wrote reaches the page as text alone.
    """
    return gr.HTML(
        value=value,
        html_template=(_STATIC / f"{name}.html").read_text(encoding="utf-8"),
        js_on_load=modules.mount(name),
        apply_default_css=False,
        elem_id=elem_id,
    )


def static_html(html: str, elem_id: str | None = None) -> gr.HTML:
    """Return markup of our own that never changes."""
    return gr.HTML(html, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def line(elem_id: str) -> gr.HTML:
    """Return a line of text of some kind; all but the notice are announced to screen readers."""
    live = "" if elem_id == "notice" else ' role="status" aria-live="polite"'
    return gr.HTML(
        value={"kind": "", "text": ""},
        html_template=f'<p class="line"{live}></p>',
        js_on_load=modules.mount("line"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def format_choice(elem_id: str, value: Format = "own") -> gr.Radio:
    """Return the switch between each variant's own format and the same bytes to all."""
    return gr.Radio(
        [("Each in its own format", "own"), ("Same bytes to all", "same")],
        value=value,
        label="Format",
        elem_id=elem_id,
        elem_classes="format",
        show_label=False,
        container=False,
    )
