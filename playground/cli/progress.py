"""Progress of long commands, on stderr."""

from __future__ import annotations

import time
from typing import Any

import rich.progress
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from models import Backend, ProgressCallback, Trio, open_backend
from playground.cli.terminal import Terminal, printable
from playground.comparison.records import weights_notes

LOG_S = 30.0
"""Seconds between two lines of progress in a log file."""


class Bar(rich.progress.Progress):
    """Progress of a long command: a bar on a terminal, or a line every `LOG_S` seconds in a log."""

    _written = float("-inf")

    def __init__(self) -> None:
        """Create a bar that writes to stderr, since stdout may be redirected to a file."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
        )
        super().__init__(*columns, TimeRemainingColumn(), console=Terminal(stderr=True))

    def add_task(self, *args: Any, **fields: Any) -> TaskID:
        """Add a task and write its first line."""
        task_id = super().add_task(*args, **fields)
        self.update(task_id)
        return task_id

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Set a task's description, total or count, and write a line if one is due."""
        super().update(task_id, **fields)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._written >= LOG_S:
            self._written = now
            task = self.tasks[task_id]
            done = "" if task.total is None else f": {task.completed:g} of {task.total:g}"
            self.console.print(f"{task.description}{done}", highlight=False, markup=False)

    def callback_for(self, task_id: TaskID) -> ProgressCallback:
        """Return a callback that shows a step and its share done in the bar of a task."""
        return lambda progress: self.update(
            task_id,
            description=printable(progress.step),
            total=1.0,
            completed=progress.done,
        )


def opened(trio: Trio) -> Backend:
    """Open a trio; show the progress of loading, and what is to be known of it, on stderr."""
    console = Terminal(stderr=True)
    spinner = "dots" if console.encoding.startswith("utf") else "line"
    with console.status("Loading", spinner=spinner) as status:
        backend = open_backend(
            trio,
            lambda progress: status.update(f"{printable(progress.step)} · {progress.done:.0%}"),
        )
    for role, note in weights_notes(backend.model_info()).items():
        console.print(f"{role}: {note}", soft_wrap=True, markup=False, highlight=False)
    return backend
