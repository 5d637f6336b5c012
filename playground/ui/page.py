"""The page: a header and its tabs. What a thing shows is in `views`, what happens in `events`."""

from __future__ import annotations

from html import escape

import gradio as gr

from models import Trio
from playground.opening import Opening
from playground.ui import api, compare_tab, evaluate_tab, events, grid_tab, lens_tab, trained_tab
from playground.ui.parts import still

MAX_WAITING = 64
"""Comparisons that may wait at once; the next is told that the queue is full."""


def build(opening: Opening) -> gr.Blocks:
    """Return the page over one trio."""
    wired = events.Events(opening)
    with gr.Blocks(title="Triptych", analytics_enabled=False) as page:
        _header(opening.trio)
        api.wire(wired)  # first: who comes first keeps the name /compare
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Compare", id="compare"):
                comparing = compare_tab.build(wired, opening.trio)
            with gr.Tab("Grid", id="grid"):
                grid_tab.build(opening, tabs, comparing)
            with gr.Tab("Lens", id="lens-tab"):
                lens_tab.build(opening)
            with gr.Tab("Evaluate", id="evaluate"):
                evaluate_tab.build(opening, tabs, comparing)
            with gr.Tab("How they were trained", id="trained") as tab:
                trained_tab.build(opening, tab)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=None)


def _header(trio: Trio) -> None:
    still(
        '<header class="masthead"><h1>Triptych</h1>'
        "<p>one prompt, three tunings</p>"
        f'<p class="trio">trio <b>{escape(trio.name)}</b></p>'
        '<button type="button" class="theme-toggle" aria-label="Switch between light and dark">'
        "dark</button></header>"
    )
