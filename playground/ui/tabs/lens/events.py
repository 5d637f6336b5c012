"""The Lens tab's fields, and what its events do. Knows the names of its parts, not Gradio."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from models import ROLES, Backend, Format, Prompt, PromptError, Request, Sampling
from playground.comparison.compare import Answers, begin, follow
from playground.lens import score_text
from playground.lens.quantization import compare_quantization, unquantised
from playground.lens.reading import LensRequest, Reading
from playground.lens.reading import read as read_text
from playground.lens.token_scores import available
from playground.ui.answer_view import ROLE_TITLES, packed
from playground.ui.fields import whole_number
from playground.ui.tabs.lens import view
from playground.ui.work import (
    DEADLINE_S,
    Painted,
    Run,
    Work,
    busy,
    done,
    paint,
    while_wanted,
)

GROWING_S = 0.5
"""Seconds between two paintings of a text that is being read."""
GROWING_TOKENS = 1000
"""Of all variants together; longer texts are painted when they are read, their progress is told."""


@dataclass(frozen=True, slots=True)
class LensFields:
    """What stands in the tab's fields."""

    text: str
    format: Format
    answer_of: str
    """A role, or empty."""
    word: str
    """What would this cost next? May be empty."""
    max_new_tokens: float
    temperature: float
    top_p: float
    top_k: float

    def answer_length(self) -> Sampling:
        """Return the settings of answers: greedy, with the greatest length that the tab says."""
        return Sampling(whole_number("Most new tokens", self.max_new_tokens))

    def request(self) -> LensRequest:
        """Return what is asked of the trio."""
        sampling = replace(
            self.answer_length(),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=whole_number("Top-k", self.top_k),
        )
        answer_of = next((role for role in ROLES if role == self.answer_of), None)
        return LensRequest(self.text, self.format, answer_of, self.word, sampling)


def read(fields: LensFields) -> Work:
    """Return what reads the text under all variants, and paints its scores as they grow.

    Raises:
        PromptError: a field cannot be used.
    """
    request = fields.request()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        context = {"format": request.format, "run": time.monotonic()}

        def shown(reading: Reading) -> Painted:
            scores = available(reading.scores)
            lens = view.lens(scores, request.answer_of, reading.cost, request.word)
            return {"lens": packed({**lens, **context, "text": reading.text})}

        def growing(reading: Reading) -> Painted:
            if reading.step == "answering" and request.answer_of:
                return busy(f"{ROLE_TITLES[request.answer_of]} answers")
            if reading.step == "costing":
                return {**shown(reading), **busy(f"What “{request.word.strip()}” would cost")}
            scores = available(reading.scores).values()
            count = sum(len(known.distributions) for known in scores)
            total = sum(len(known.pieces) for known in scores)
            asking = count == total and score_text.left_out(trio)
            status = "Asking servers" if asking else f"Read {count:,} of {total:,} tokens"
            return {**(shown(reading) if total <= GROWING_TOKENS else {}), **busy(status)}

        states = while_wanted(read_text(trio, request, run.wanted), run)
        reading = yield from paint(states, growing, every_s=GROWING_S)
        if reading is None:
            return
        scores = available(reading.scores)
        if not run.wanted():
            yield {**shown(reading), **done("Stopped; what was read is shown.")}
        elif scores:
            status = " ".join([view.summary_line(scores), reading.note, reading.problem]).strip()
            yield {**shown(reading), **done(status)}

    return work


def fork(fields: LensFields, choice: Any) -> Work:
    """Return what has all variants go on from a beginning with another token in it.

    Args:
        fields: of the tab.
        choice: from the browser: {"ids": the beginning's ids, "id": the other token, "instead":
            the text of the token that stood there, "text" and "format": what was read}.

    Raises:
        PromptError: a field cannot be used, or the choice is of another shape.
    """
    sampling, ids, format = fields.answer_length(), _ids(choice), choice.get("format")
    text = str(choice.get("text") or "")
    prompt = Prompt("") if format == "same" else score_text.prompt_of(text)

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        encoder = next(iter(trio.encoders.values()), None)
        pieces = encoder.pieces(ids) if encoder else ()
        known = score_text.readable(trio, prompt, format)
        score_text.check_vocabularies(known)
        request = Request(
            prompt,
            sampling,
            format,
            roles=list(known),
            forced_prefix=ids,
            deadline_s=DEADLINE_S,
        )
        answers = begin(trio, request)
        instead = str(choice.get("instead") or "")
        title = f"“{view.visible([pieces[-1].text])}”" + (
            f" instead of “{view.visible([instead])}”" if instead else ""
        )
        forced_prefix = view.visible([piece.text for piece in pieces])
        started = time.monotonic()

        def shown(answers: Answers) -> Painted:
            return {"forks": view.fork(started, title, forced_prefix, answers)}

        last = yield from paint(
            follow(answers, trio.stream(request)),
            lambda states: {**shown(states), **busy("Going on from there")},
            lambda: () if run.wanted() else ROLES,
        )
        ended = f"All went on from {title}." if run.wanted() else "Stopped."
        status = " ".join([ended, score_text.left_out(trio)]).strip()
        yield {**shown(last or answers), **done(status)}

    return work


def quantization(fields: LensFields) -> Work:
    """Return what compares the trio with its unquantised self on the tab's text.

    Raises:
        PromptError: a field cannot be used.
    """
    prompt, sampling = score_text.prompt_of(fields.text), fields.answer_length()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        yield busy("Loading the unquantised weights, which takes some seconds")
        with unquantised(trio) as exact:
            if not run.wanted():
                yield done("Stopped.")
                return
            yield busy("Both answer, and read each other")
            reports = compare_quantization(trio, exact, prompt, fields.format, sampling, run.wanted)
        if run.wanted():
            status = done("Compared with unquantised weights.")
            yield {"rounding": view.quantization(reports), **status}
        else:
            yield done("Stopped.")

    return work


def _ids(choice: Any) -> list[int]:
    """Return the ids that a fork goes on from, the chosen one last.

    Raises:
        PromptError: they are no ids.
    """
    before = choice.get("ids") if isinstance(choice, dict) else None
    ids = [*before, choice.get("id")] if isinstance(before, list) else []
    if not ids or not all(isinstance(id, int) for id in ids):
        raise PromptError("A fork needs the ids before it and the id that is forced.")
    return ids
