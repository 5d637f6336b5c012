"""The visitors' runs on a tab: how each starts, replaces an earlier one and is stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import gradio as gr

from models import ROLES, ModelError, Role
from playground.comparison.trio_loader import TrioLoader
from playground.ui import answer_view
from playground.ui.components import QUIET, Parts, inputs_of, to_outputs
from playground.ui.work import Painted, Run, Work, busy, done, failed

Fields = TypeVar("Fields")


class Session:
    """The runs on one tab: at most one at a time for each visitor who has the page open."""

    def __init__(self, loader: TrioLoader) -> None:
        """Take the trio, loaded or still loading."""
        self._loader = loader
        self._runs: dict[str, Run] = {}
        """By the visitor's session hash."""

    def run(self, visitor: str, prepare: Callable[[], Work]) -> Iterator[Painted]:
        """Prepare the work, wait for the trio and yield what the work paints; say what fails.

        The visitor's earlier run on this tab ends, and paints nothing more. If the fields cannot be
        used, it ends by painting that it was stopped, and the error is painted after that.
        """
        earlier = self._runs.get(visitor)
        self.stop(visitor)
        try:
            work = prepare()
        except ModelError as error:
            yield failed(error)
            if earlier:
                earlier.ended.wait()
                yield failed(error)
            return
        run = self._runs[visitor] = Run()
        try:
            with closing(self._painted(work, run)) as painted:
                for parts in painted:
                    if self._runs.get(visitor) is not run:
                        return
                    yield parts
        finally:
            run.ended.set()
            if self._runs.get(visitor) is run:
                del self._runs[visitor]

    def _painted(self, work: Work, run: Run) -> Generator[Painted]:
        try:
            for progress in self._loader.wait():
                if run.stopped:
                    yield done("Stopped.")
                    return
                yield busy(f"The trio is still loading: {answer_view.loading(progress)}")
            with self._loader.used() as trio:
                yield from work(trio, run)
        except ModelError as error:
            yield failed(error)
        except Exception:  # a fault of ours: told here, since the page shows no error of Gradio's
            yield failed("This failed unexpectedly. The log has the whole story.")
            raise

    def stop(self, visitor: str, roles: Iterable[Role] = ROLES) -> None:
        """Stop the visitor's run, or some columns of it; it ends by itself and says so."""
        if run := self._runs.get(visitor):
            run.stopped.update(roles)

    def wire_run(
        self,
        triggers: Iterable[Callable[..., Any]],
        prepare: Callable[..., Work],
        fields: Callable[..., Fields],
        outputs: Collection[str],
        parts: Parts,
        with_data: bool = False,
    ) -> None:
        """Have events run the work that `prepare` makes of the tab's fields.

        Args:
            triggers: the components' events.
            prepare: takes the fields and returns the work; raises if they cannot be used.
            fields: the dataclass of the fields, which are named like their parts.
            outputs: names of the parts that the work paints.
            parts: of the tab.
            with_data: whether `prepare` takes the events' own data, too, such as what was chosen.
        """

        def start(request: gr.Request, values: Iterable[Any], *data: Any) -> Iterator[Parts]:
            painted = self.run(str(request.session_hash), lambda: prepare(fields(*values), *data))
            yield from to_outputs(painted, parts)

        def run(request: gr.Request, *values: Any) -> Iterator[Parts]:
            yield from start(request, values)

        def run_with_data(
            request: gr.Request, event: gr.EventData, *values: Any
        ) -> Iterator[Parts]:
            yield from start(request, values, event._data)

        for trigger in triggers:
            trigger(
                run_with_data if with_data else run,
                inputs=inputs_of(fields, parts),
                outputs=[parts[name] for name in outputs],
                trigger_mode="multiple",
                concurrency_limit=None,
                **QUIET,
            )

    def wire_stop(self, trigger: Callable[..., Any], roles: Iterable[Role] = ROLES) -> None:
        """Have an event stop the visitor's run, or some columns of it.

        Gradio's `cancels` is not used: it would drop the run where it stands, and the columns would
        never say that they were stopped. Gradio closes the run of a visitor who leaves the page.
        """

        def stop(request: gr.Request) -> None:
            self.stop(str(request.session_hash), roles)

        trigger(stop, concurrency_limit=None, **QUIET)
