"""One generator or function per event of the page. Knows names of outputs, not components."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from models import (
    ROLES,
    Demonstration,
    Form,
    Format,
    Layout,
    ModelError,
    Prompt,
    PromptError,
    Request,
    Role,
    Sampling,
)
from playground.comparison.compare import Answers, begin, follow
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.forms import make_prompt
from playground.ui import answer_view
from playground.ui.session import Painted, busy, done

PAINT_S = 0.07
"""At most 14 updates a second: more only heats the browser."""
DEADLINE_S = 180.0
"""A comparison that takes longer ends with what it has."""


@dataclass(frozen=True, slots=True)
class CompareFields:
    """What stands in the page's fields when Compare is pressed."""

    form: Form
    instruction: str
    input: str
    input_label: str
    cue: str
    table: object
    """From the browser: checked when it is read."""
    shots: float
    format: Format
    max_new_tokens: float
    temperature: float
    top_p: float
    top_k: float
    seed: float
    stop_texts: bool
    task_strength: float = 1.0
    instruct_strength: float = 1.0

    def strengths(self) -> dict[Role, float]:
        """Return the scales that are not as trained."""
        given: dict[Role, float] = {"task": self.task_strength, "instruct": self.instruct_strength}
        return {role: strength for role, strength in given.items() if strength != 1}

    def prompt(self) -> Prompt:
        """Make the prompt; a field that the form has no place for stays out of it."""
        layout = Layout(self.input_label, self.cue)
        if self.form == "instruction":
            return make_prompt(self.form, instruction=self.instruction, input=self.input)
        if self.form == "zero-shot":
            return make_prompt(self.form, input=self.input, layout=layout)
        return make_prompt(
            self.form,
            instruction=self.instruction,
            input=self.input,
            demonstrations=demonstrations(self.table)[: whole("Shots", self.shots)],
            layout=layout,
        )

    def sampling(self) -> Sampling:
        """Make the sampling settings; number fields come as floats, or empty."""
        return Sampling(
            max_new_tokens=whole("Most new tokens", self.max_new_tokens),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=whole("Top-k", self.top_k),
            seed=whole("Seed", self.seed),
        )

    def request(self) -> Request:
        """Make what is asked of the trio."""
        return Request(
            self.prompt(),
            self.sampling(),
            self.format,
            self.stop_texts,
            self.strengths(),
            deadline_s=DEADLINE_S,
        )


class Events:
    """The events of one page over one trio, for all who have it open."""

    def __init__(self, opening: TrioLoader) -> None:
        """Take the trio, open or still opening."""
        self._opening = opening
        self._stops: dict[str, set[Role]] = {}
        """For each running comparison's session, the columns that its owner has stopped."""

    def compare(self, session: str, fields: CompareFields) -> Iterator[Painted]:
        """Wait for the trio, then stream the three answers; ends the session's earlier run."""
        self.stop(session)
        stopped = self._stops[session] = set()
        try:
            request = fields.request()
            for progress in self._opening.wait():
                if stopped:
                    yield done("Stopped.")
                    return
                yield busy(f"The trio is still loading: {answer_view.loading(progress)}")
            with self._opening.used() as trio:
                answers = begin(trio, request)
                with closing(follow(answers, trio.stream(request))) as states:
                    for painted in _paint(answers, states, stopped):
                        if self._stops.get(session) is not stopped:
                            return  # the panes belong to a later run
                        yield painted
        except ModelError as error:
            yield {"status": {"kind": "error", "text": str(error)}}
        finally:
            if self._stops.get(session) is stopped:
                del self._stops[session]

    def preview(self, fields: CompareFields) -> Painted:
        """Return what the prompt in the fields would be for each variant; nothing if it is none."""
        self._opening.begin()  # it may have been closed for another
        trio = self._opening.backend
        nothing: Painted = {"columns": [], "findings": []}
        if trio is None:
            return nothing
        try:
            prompt, limit = fields.prompt(), whole("Most new tokens", fields.max_new_tokens)
            sent = trio.encode(prompt, fields.format, fields.stop_texts)
        except ModelError:  # said when it is sent
            return nothing
        return answer_view.ledger(trio.trio, prompt, sent, fields.format, limit)

    def stop(self, session: str) -> None:
        """Stop the session's running comparison; it ends by itself and says so."""
        if session in self._stops:
            self._stops[session].update(ROLES)

    def stop_column(self, session: str, role: Role) -> None:
        """Stop one column of the session's running comparison."""
        if session in self._stops:
            self._stops[session].add(role)

    def loading(self) -> tuple[dict[str, str], bool]:
        """Return the line on the trio, and whether its loading has ended; it begins if need be."""
        self._opening.begin()
        if self._opening.error:
            return {"kind": "error", "text": self._opening.error}, True
        if trio := self._opening.backend:
            return {"kind": "ready", "text": answer_view.memory(trio.memory())}, True
        return busy(answer_view.loading(self._opening.progress))["status"], False


def _paint(
    answers: Answers,
    states: Generator[Answers, Collection[Role] | None, None],
    stopped: set[Role],
) -> Iterator[Painted]:
    """Yield what to show, 14 times a second at most; the last state always.

    A column that its owner has stopped is told to the stream with its next step.
    """
    yield {**_panes(answers), **busy("Reading the prompt")}
    painted, told = time.monotonic(), frozenset[Role]()
    answers = next(states, answers)
    try:
        while True:
            if time.monotonic() - painted >= PAINT_S:
                painted = time.monotonic()
                yield {**_panes(answers), **busy(_doing(answers))}
            now = frozenset(stopped)  # one reading: another thread adds to it
            wanted, told = now - told, now
            answers = states.send(wanted or None)
    except StopIteration:
        yield {**_panes(answers), **done(answer_view.finished(answers))}


def _doing(answers: Answers) -> str:
    if place := max(one.place for one in answers.values()):
        return f"Waiting: place {place} in the line"
    return answer_view.finished(answers) or "Answering"


def _panes(answers: Answers) -> Painted:
    return {**{role: answer_view.pane(None) for role in ROLES}, **answer_view.panes(answers)}


def demonstrations(table: object) -> list[Demonstration]:
    """Read the examples table; rows with nothing in them do not count.

    Raises:
        PromptError: it is no list of pairs of texts.
    """
    shots = []
    for row in table if isinstance(table, list) else [table]:
        pair = isinstance(row, list) and len(row) == 2 and all(isinstance(c, str) for c in row)
        if not isinstance(row, list) or not pair:
            raise PromptError(f"A row of demonstrations is {row!r}; it must be two texts.")
        if any(cell.strip() for cell in row):
            shots.append(Demonstration(*row))
    return shots


def whole(field: str, value: object) -> int:
    """Return a number field's value; the field is named as the page does.

    Raises:
        PromptError: it is no whole number, or the field is empty.
    """
    if not isinstance(value, int | float) or not float(value).is_integer():
        found = "is empty" if value is None else f"holds {value!r}"
        raise PromptError(f"{field} {found}; it must be a whole number.")
    return int(value)
