"""Components that several tabs share, and their wiring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from models import Format
from playground.ui import modules

Parts = dict[str, Any]
"""Components by name; or values by component, the form in which Gradio expects outputs."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Settings of every event of the page: no progress overlay, and no public endpoint."""
DIRECT: dict[str, Any] = {**QUIET, "queue": False}
"""Those of events that answer at once, which nobody's run in Gradio's queue may hold up."""
Example = TypeVar("Example")
_STATIC = Path(__file__).parent / "static"


def to_outputs(painted: Iterable[Mapping[str, Any]], parts: Parts) -> Iterator[Any]:
    """Convert painted values, given by part name, to Gradio's outputs, given by component.

    An empty output is yielded last: Gradio sends the last one twice, the second time when another
    run may already paint the same parts.
    """
    for values in painted:
        yield by_part(values, parts)
    yield gr.skip()


def by_part(values: Mapping[str, Any], parts: Parts) -> Parts:
    """Convert values by part name to values by component."""
    return {parts[name]: value for name, value in values.items()}


def inputs_of(fields: Any, parts: Parts) -> list[Any]:
    """Return the parts that are named like the fields of a dataclass, in its order."""
    return [parts[field.name] for field in dataclasses.fields(fields)]


def chips(examples: Iterable[tuple[str, Example]]) -> list[tuple[gr.Button, Example]]:
    """Create a button for each pair of name and example, below a label."""
    static_html('<p class="chips-label">Try</p>')
    return [
        (gr.Button(name, size="sm", elem_classes="chip"), example) for name, example in examples
    ]


def wire_chips(
    chips: Iterable[tuple[gr.Button, Example]], fill: Callable[[Example], Parts], outputs: list[Any]
) -> list[Callable[..., Any]]:
    """Make each chip fill its example into the fields; return the `then` of each click."""
    return [
        button.click(partial(fill, example), outputs=outputs, **DIRECT).then
        for button, example in chips
    ]


def notice(text: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of a line that says what to notice; an empty text says nothing."""
    shown = f"What to notice: {text}" if text else ""
    return {"kind": "notice" if text else "", "text": shown, "of": fields}


def filled_with_notice(fields: Mapping[str, Any], text: str, parts: Parts) -> Parts:
    """Return the outputs that fill an example's fields, and say what to notice."""
    return by_part({**fields, "notice": notice(text, fields)}, parts)


def keep_notice(parts: Parts, names: Sequence[str]) -> None:
    """Empty the line of the notice as soon as one of these fields is no longer the example's."""
    gr.on(
        [parts[name].change for name in names],
        None,
        inputs=[parts[name] for name in ("notice", *names)],
        outputs=parts["notice"],
        js=modules.listener("notice", "keepNotice", names),
        **DIRECT,
    )


def run_and_stop(run: str, elem_id: str) -> Parts:
    """Create the buttons that start and stop a tab's run."""
    return {
        "run": gr.Button(run, variant="primary", elem_id=f"{elem_id}-run", scale=0, min_width=200),
        "stop": gr.Button("Stop", elem_id=f"{elem_id}-stop", scale=0, min_width=110),
    }


def js_component(name: str, value: Any, elem_id: str | None = None) -> gr.HTML:
    """Create a component whose value `js/NAME.js` renders into the static template `NAME.html`.

    Values never become markup: what a model or a visitor wrote reaches the page only as text.
    """
    return gr.HTML(
        value=value,
        html_template=(_STATIC / f"{name}.html").read_text(encoding="utf-8"),
        js_on_load=modules.mount(name),
        apply_default_css=False,
        elem_id=elem_id,
    )


def static_html(html: str, elem_id: str | None = None) -> gr.HTML:
    """Create a component of fixed markup."""
    return gr.HTML(html, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def line(elem_id: str) -> gr.HTML:
    """Create a line of text with a kind, such as busy or error, announced to screen readers.

    Notices are the only lines that are not announced.
    """
    live = "" if elem_id.endswith("notice") else ' role="status" aria-live="polite"'
    return gr.HTML(
        value={"kind": "", "text": ""},
        html_template=f'<p class="line"{live}></p>',
        js_on_load=modules.mount("line"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def format_choice(elem_id: str, value: Format = "own") -> gr.Radio:
    """Create the switch between each variant's own format and the same bytes to all."""
    return gr.Radio(
        [("Each in its own format", "own"), ("Same bytes to all", "same")],
        value=value,
        label="Format",
        elem_id=elem_id,
        elem_classes="format",
        show_label=False,
        container=False,
    )
