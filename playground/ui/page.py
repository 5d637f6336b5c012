"""The page: a header and its tabs. What a thing shows is in `views`, what happens in `events`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import gradio as gr

from models import Trio
from playground.comparison.trio_loader import TrioLoader
from playground.ui.components import static_html
from playground.ui.endpoints import api
from playground.ui.tabs.compare.tab import build_compare_tab
from playground.ui.tabs.evaluate.tab import build_evaluate_tab
from playground.ui.tabs.grid.tab import build_grid_tab
from playground.ui.tabs.lens.tab import build_lens_tab
from playground.ui.tabs.trained.tab import build_trained_tab

MAX_WAITING = 64
"""Comparisons that may wait at once; the next is told that the queue is full."""


def build(openings: Sequence[TrioLoader]) -> gr.Blocks:
    """Return the page: the first trio at its root, and each other one at a path of its own."""
    with gr.Blocks(title="Triptych", analytics_enabled=False) as page:
        api.wire(openings)  # first: who comes first keeps the name /compare
        _fill(openings[0], openings)
    for one in openings[1:]:
        with page.route(one.trio.name, _path(one.trio), show_in_navbar=False):
            _fill(one, openings)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=None)


def _path(trio: Trio) -> str:
    # Gradio has paths of its own, and takes no percent sign in one.
    return "trio-" + quote(trio.name, safe="").replace("%", "~")


def _fill(opening: TrioLoader, openings: Sequence[TrioLoader]) -> None:
    _header(opening.trio, [one.trio for one in openings])
    with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
        with gr.Tab("Compare", id="compare"):
            comparing = build_compare_tab(opening)
        with gr.Tab("Grid", id="grid"):
            build_grid_tab(opening, tabs, comparing)
        with gr.Tab("Lens", id="lens-tab"):
            build_lens_tab(opening)
        with gr.Tab("Evaluate", id="evaluate"):
            build_evaluate_tab(opening, tabs, comparing)
        with gr.Tab("How they were trained", id="trained") as tab:
            build_trained_tab(opening, tab)


def _header(trio: Trio, trios: Sequence[Trio]) -> None:
    shown = f"trio <b>{escape(trio.name)}</b>"
    if others := [one for one in trios if one is not trio]:
        links = "".join(
            f'<li><a href="{"./" if one is trios[0] else _path(one)}">{escape(one.name)}'
            f"<small>{escape(one.title)}</small></a></li>"
            for one in others
        )
        choice = f"<summary>{shown}</summary><ul>{links}</ul>"
        shown = f'<details class="trio-choice">{choice}</details>'
    static_html(
        '<header class="masthead"><h1>Triptych</h1>'
        "<p>one prompt, three tunings</p>"
        f'<div class="trio">{shown}</div>'
        '<button type="button" class="theme-toggle" aria-label="Switch between light and dark">'
        "dark</button></header>"
    )
