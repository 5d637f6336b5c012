"""The Grid tab's fields and event handlers. Refers to parts by name; imports no Gradio."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from models import Backend, Format, Layout, Sampling
from playground.comparison.grid import Cell, fill, prompts_of
from playground.ui.fields import demonstrations, whole_number
from playground.ui.tabs.grid import view
from playground.ui.work import DEADLINE_S, Painted, Run, Work, busy, done, paint


@dataclass(frozen=True, slots=True)
class GridFields:
    """The values of the tab's fields when the grid is filled."""

    instruction: str
    input: str
    input_label: str
    cue: str
    table: object
    format: Format
    max_new_tokens: float
    stop_loops: bool


def fill_grid(fields: GridFields) -> Work:
    """Return the work that generates nine answers and paints the grid as they grow.

    Raises:
        PromptError: a field is invalid.
    """
    prompts = prompts_of(
        fields.input,
        fields.instruction,
        demonstrations(fields.table),
        Layout(fields.input_label, fields.cue),
    )
    sampling = Sampling(whole_number("Most new tokens", fields.max_new_tokens))

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        cells: list[Cell] = [(form, v.role) for form in prompts for v in trio.trio.variants]
        grid = yield from paint(
            fill(trio, prompts, sampling, fields.format, DEADLINE_S, fields.stop_loops),
            lambda grid: {"cells": view.grid(grid, prompts), **busy(view.status(grid))},
            lambda: () if run.wanted() else cells,
        )
        if grid:
            yield {"cells": view.grid(grid, prompts), **done(view.finished(grid, prompts))}

    return work
