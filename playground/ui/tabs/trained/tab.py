"""Builds the tab that shows how the variants were trained."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from models import ModelError, Weights, run_reports
from playground.comparison.trio_loader import TrioLoader
from playground.training_data.explain import example_rows, known_base
from playground.ui import answer_view
from playground.ui.components import QUIET, Parts, js_component, line, static_html
from playground.ui.tabs.trained import view
from playground.ui.work import busy, cleared, failed

_LEDE = (
    '<p class="lede">The three differ in their training data alone. A base learns from plain text, '
    "task tuning from inputs and answers of one task, instruction tuning from tasks that are "
    "written out.</p>"
)


def build_trained_tab(loader: TrioLoader, tab: gr.Tab) -> None:
    """Build the tab; it is filled each time it is opened, once the trio is loaded."""
    static_html(_LEDE)
    status = line("trained-status")
    shown = js_component("trained", view.training(None, {}, {}), "trained")

    def fill() -> Iterator[Parts]:
        try:
            for progress in loader.wait():
                yield {status: busy(answer_view.loading(progress))["status"]}
            first = loader.trio.variants[0].source
            base = known_base(first.base.source if isinstance(first, Weights) else first.model)
            with loader.used() as trio:
                value = view.training(example_rows(trio), run_reports(trio.trio), base)
            yield {status: cleared()["status"], shown: value}
        except ModelError as error:
            yield {status: failed(error)["status"]}

    tab.select(fill, outputs=[status, shown], concurrency_limit=None, **QUIET)
