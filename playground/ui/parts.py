"""Components that several tabs are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

Parts = dict[str, Any]
_HERE = Path(__file__).parent


def painted(name: str, value: Any, elem_id: str | None = None) -> gr.HTML:
    """Return a component whose value is painted by `NAME.js` into the static `NAME.html`.

    No value ever becomes markup: what a model or a visitor wrote reaches the page as text alone.
    """
    return gr.HTML(
        value=value,
        html_template=(_HERE / f"{name}.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / f"{name}.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def still(html: str, elem_id: str | None = None) -> gr.HTML:
    """Return markup of our own that never changes."""
    return gr.HTML(html, js_on_load=None, apply_default_css=False, elem_id=elem_id)


def line(elem_id: str) -> gr.HTML:
    """Return a line of text of some kind; all but the notice are announced to screen readers."""
    told = "" if elem_id == "notice" else ' role="status" aria-live="polite"'
    return gr.HTML(
        value={"kind": "", "text": ""},
        html_template=f'<p class="line"{told}></p>',
        js_on_load=(_HERE / "line.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=elem_id,
    )
