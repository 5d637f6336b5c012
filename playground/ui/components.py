"""Components that several tabs are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from models import Format
from playground.ui import modules

Parts = dict[str, Any]
_STATIC = Path(__file__).parent / "static"


def to_outputs(told: Iterable[Mapping[str, Any]], parts: Parts) -> Iterator[Any]:
    """Yield values by their parts, which stand in what is told by name; last, what paints nothing.

    Gradio sends the last word twice, the second time when another run may have the parts.
    """
    for one in told:
        yield {parts[name]: value for name, value in one.items()}
    yield gr.skip()


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
    told = "" if elem_id == "notice" else ' role="status" aria-live="polite"'
    return gr.HTML(
        value={"kind": "", "text": ""},
        html_template=f'<p class="line"{told}></p>',
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
