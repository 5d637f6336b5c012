"""Starts, replaces and stops the visitors' runs on a tab."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import gradio as gr

from models import ROLES, ModelError, PromptError, Role
from playground.comparison.trio_loader import TrioLoader
from playground.ui import answer_view
from playground.ui.components import DIRECT, QUIET, Parts, inputs_of, to_outputs
from playground.ui.server.visitors import Visitors
from playground.ui.work import Painted, Run, Work, busy, done, failed

Fields = TypeVar("Fields")


class Session:
    """The runs on one tab: at most one at a time for each visitor who has the page open."""

    def __init__(self, loader: TrioLoader, visitors: Visitors) -> None:
        """Create a session without runs; `loader` may still be loading its trio."""
        self._loader = loader
        self._visitors = visitors
        self._runs: dict[str, Run] = {}
        """Current runs, by the visitor's session hash."""

    def run(self, visitor: str, prepare: Callable[[], Work]) -> Generator[Painted]:
        """Prepare the work, wait for the trio and yield what the work paints, errors included.

        The visitor's earlier run on this tab is stopped and paints nothing more, unless `prepare`
        fails: then it ends by painting that it was stopped, and the error is painted again after.
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
        run = self._runs[visitor] = Run(others=self._visitors.others_answer)
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
            with self._visitors.line.joined() as places:
                for text in self._waiting(places):
                    if run.stopped:
                        yield done("Stopped.")
                        return
                    yield busy(text)
                with self._loader.used() as trio:
                    yield from work(trio, run)
        except ModelError as error:
            yield failed(error)
        except Exception:  # a bug: reported here, since the page hides Gradio's errors
            yield failed("This failed unexpectedly. The log has the whole story.")
            raise

    def _waiting(self, places: Iterator[int]) -> Iterator[str]:
        for place in places:
            yield f"Many ask at once. Waiting to be let in: place {place} in the line"
        for progress in self._loader.wait():
            yield f"The trio is still loading: {answer_view.loading(progress)}"

    def stop(self, visitor: str, roles: Iterable[Role] = ROLES) -> None:
        """Ask the visitor's run, or some columns of it, to stop; it then ends and paints that."""
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
        """Make events run the work that `prepare` returns for the tab's fields.

        Args:
            triggers: the event listeners of components, such as `button.click`.
            prepare: takes the fields and returns the work; raises `ModelError` if they are invalid.
            fields: the dataclass of the fields, whose names are those of their parts.
            outputs: names of the parts that the work paints.
            parts: the parts of the tab.
            with_data: whether `prepare` also takes the event's data, such as the selected item.
        """

        def start(request: gr.Request, values: Iterable[Any], *data: Any) -> Iterator[Parts]:
            painted = self.run(str(request.session_hash), lambda: prepare(fields(*values), *data))
            try:
                with self._visitors.admitted(request):
                    yield from to_outputs(self._visitors.while_read(request, painted), parts)
            except PromptError as error:
                yield from to_outputs([failed(error)], parts)

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
                **QUIET,
            )

    def wire_stop(self, trigger: Callable[..., Any], roles: Iterable[Role] = ROLES) -> None:
        """Make an event stop the visitor's run, or some columns of it.

        Gradio's `cancels` is not used: it would abort the run immediately, and the columns would
        never show that they were stopped. Gradio closes the run of a visitor who leaves the page.
        """

        def stop(request: gr.Request) -> None:
            self.stop(str(request.session_hash), roles)

        trigger(stop, **DIRECT)
