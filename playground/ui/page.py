"""Builds the page: a header, the tabs and the API endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import gradio as gr

from models import Trio
from playground.comparison.trio_loader import TrioLoader
from playground.ui.components import static_html
from playground.ui.endpoints import api
from playground.ui.server.blocks import Page
from playground.ui.server.uploads import KEPT_S, SWEEP_S
from playground.ui.server.visitors import Visitors, bound_queue
from playground.ui.tabs.compare.tab import build_compare_tab
from playground.ui.tabs.evaluate.tab import build_evaluate_tab
from playground.ui.tabs.grid.tab import build_grid_tab
from playground.ui.tabs.lens.tab import build_lens_tab
from playground.ui.tabs.trained.tab import build_trained_tab


def build(loaders: Sequence[TrioLoader]) -> gr.Blocks:
    """Build the page, with the first trio at its root and each other one at a path of its own."""
    with Page(title="Triptych", analytics_enabled=False, delete_cache=(SWEEP_S, KEPT_S)) as page:
        visitors = Visitors(page)
        api.wire(loaders, visitors)  # first, so that its endpoint gets the name /compare
        _fill(loaders[0], loaders, visitors)
    for other in loaders[1:]:
        with page.route(other.trio.name, _path(other.trio), show_in_navbar=False):
            _fill(other, loaders, visitors)
    bound_queue(page)
    return page


def _path(trio: Trio) -> str:
    # The prefix avoids Gradio's own paths; Gradio accepts no percent sign in a path.
    return "trio-" + quote(trio.name, safe="").replace("%", "~")


def _fill(loader: TrioLoader, loaders: Sequence[TrioLoader], visitors: Visitors) -> None:
    _header(loader.trio, [other.trio for other in loaders])
    with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
        with gr.Tab("Compare", id="compare"):
            comparing = build_compare_tab(loader, visitors)
        with gr.Tab("Grid", id="grid"):
            build_grid_tab(loader, visitors, tabs, comparing)
        with gr.Tab("Lens", id="lens-tab"):
            build_lens_tab(loader, visitors)
        with gr.Tab("Evaluate", id="evaluate"):
            build_evaluate_tab(loader, visitors, tabs, comparing)
        with gr.Tab("How they were trained", id="trained") as tab:
            build_trained_tab(loader, tab)


def _header(trio: Trio, trios: Sequence[Trio]) -> None:
    shown = f"trio <b>{escape(trio.name)}</b>"
    if others := [other for other in trios if other is not trio]:
        links = "".join(
            f'<li><a href="{"./" if other is trios[0] else _path(other)}">{escape(other.name)}'
            f"<small>{escape(other.title)}</small></a></li>"
            for other in others
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
