"""The Compare tab's fields and event handlers. Refers to parts by name; imports no Gradio."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial

from models import ROLES, Backend, Form, Format, Layout, ModelError, Prompt, Request, Role, Sampling
from playground.comparison.compare import Answers, begin, follow
from playground.comparison.trio_loader import TrioLoader
from playground.prompting.forms import make_prompt
from playground.ui import answer_view
from playground.ui.fields import demonstrations, whole_number
from playground.ui.work import DEADLINE_S, Painted, Run, Work, busy, done, paint


@dataclass(frozen=True, slots=True)
class CompareFields:
    """The values of the tab's fields when Compare is pressed."""

    form: Form
    instruction: str
    input: str
    input_label: str
    cue: str
    table: object
    """The rows of demonstrations as the browser sent them; `prompt` checks them."""
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
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop_loops: bool = True

    def strengths(self) -> dict[Role, float]:
        """Return the strengths that differ from 1, which is as trained."""
        given: dict[Role, float] = {"task": self.task_strength, "instruct": self.instruct_strength}
        return {role: strength for role, strength in given.items() if strength != 1}

    def prompt(self) -> Prompt:
        """Make the prompt; fields that the form does not use are left out."""
        layout = Layout(self.input_label, self.cue)
        if self.form == "instruction":
            return make_prompt(self.form, instruction=self.instruction, input=self.input)
        if self.form == "zero-shot":
            return make_prompt(self.form, input=self.input, layout=layout)
        return make_prompt(
            self.form,
            instruction=self.instruction,
            input=self.input,
            demonstrations=demonstrations(self.table)[: whole_number("Shots", self.shots)],
            layout=layout,
        )

    def sampling(self) -> Sampling:
        """Make the sampling settings; the browser sends number fields as floats, or empty."""
        return Sampling(
            max_new_tokens=whole_number("Most new tokens", self.max_new_tokens),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=whole_number("Top-k", self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=whole_number("Seed", self.seed),
        )

    def request(self) -> Request:
        """Make the request to the trio."""
        return Request(
            self.prompt(),
            self.sampling(),
            self.format,
            self.stop_texts,
            self.strengths(),
            deadline_s=DEADLINE_S,
            stop_loops=self.stop_loops,
        )


def compare(fields: CompareFields) -> Work:
    """Return the work that streams the three answers.

    Raises:
        PromptError: a field is invalid.
    """
    request = fields.request()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        answers = begin(trio, request)
        show = partial(_shown, answer_view.packed_prompts(answers))
        last = yield from paint(
            follow(answers, trio.stream(request)),
            lambda answers: {**show(answers), **busy(_status(answers))},
            lambda: run.stopped,
            initial=answers,
        )
        answers = last or answers
        yield {**show(answers), **done(answer_view.finished(answers))}

    return work


def preview(loader: TrioLoader, fields: CompareFields) -> Painted:
    """Return the ledger of the prompt; empty if the trio is loading or a field is invalid."""
    loader.begin()  # the trio may have been closed to make room for another
    trio = loader.backend
    nothing: Painted = {"columns": [], "findings": [], "settings": ""}
    if trio is None:
        return nothing
    try:
        request = fields.request()
        sent = trio.encode(request.prompt, request.format, request.stop_texts)
    except ModelError:  # pressing Compare shows the error
        return nothing
    return answer_view.ledger(trio.trio, request, sent)


def loading(loader: TrioLoader) -> tuple[dict[str, str], bool]:
    """Start loading the trio if needed; return the status line, and whether loading has ended."""
    loader.begin()
    if loader.error:
        return {"kind": "error", "text": loader.error}, True
    if trio := loader.backend:
        return {"kind": "ready", "text": answer_view.memory(trio.memory())}, True
    return busy(answer_view.loading(loader.progress))["status"], False


def _status(answers: Answers) -> str:
    if place := max(answer.place for answer in answers.values()):
        return f"Waiting: place {place} in the line"
    if not any(answer.begun for answer in answers.values()):
        return "Reading the prompt"
    return answer_view.finished(answers) or "Answering"


def _shown(packed_prompts: Mapping[Role, str], answers: Answers) -> Painted:
    empty: Painted = {role: answer_view.pane(None) for role in ROLES}
    return {**empty, **answer_view.panes(answers, packed_prompts)}
