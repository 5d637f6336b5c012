"""Links to a prompt: the browser creates one from the fields, and opening it fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from models import PromptError
from playground.prompting import links
from playground.ui import modules
from playground.ui.components import DIRECT, Parts


def wire(
    button: gr.Button,
    fields: dict[str, Any],
    status: gr.HTML,
    fill: Callable[[dict[str, Any]], Parts],
    filled: Sequence[Any],
) -> None:
    """Wire the button that copies a link, and fill the fields when the page is opened by a link.

    Args:
        button: the button that copies the link.
        fields: the components of the fields, by the names in `links.DEFAULTS`, `table` and `shots`.
        status: the status line, which shows that the link was copied, or what is wrong with it.
        fill: converts values of fields to the outputs that show them.
        filled: the components that `fill` may change.
    """
    written = modules.listener("share_link", "copyLink", list(fields), links.DEFAULTS)
    button.click(None, inputs=list(fields.values()), outputs=status, js=written, **DIRECT)
    query = gr.Textbox(visible=False)

    def read(text: str | None) -> Any:
        try:
            values = links.fields_of(text or "")
        except PromptError as error:
            return {status: {"kind": "error", "text": str(error)}}
        return fill(values) if values else gr.skip()

    page = gr.context.Context.root_block
    assert page is not None
    page.load(read, query, [*filled, status], js="() => location.search", **DIRECT)
