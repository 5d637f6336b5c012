"""The Lens tab's fields and event handlers. Refers to parts by name; imports no Gradio."""

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
"""Seconds between two updates while a text is scored."""
GROWING_TOKENS = 1000
"""Total tokens of all variants up to which scores are painted as they grow; a longer text is
painted when it is finished, and only its progress is shown before."""


@dataclass(frozen=True, slots=True)
class LensFields:
    """The values of the tab's fields."""

    text: str
    format: Format
    answer_of: str
    """The role whose answer is scored after the text; empty for none."""
    word: str
    """A word whose loss after the text is computed; empty for none."""
    max_new_tokens: float
    temperature: float
    top_p: float
    top_k: float

    def answer_length(self) -> Sampling:
        """Return the settings for answers: greedy, with the limit of tokens in the tab's field."""
        return Sampling(whole_number("Most new tokens", self.max_new_tokens))

    def request(self) -> LensRequest:
        """Make the request to the lens."""
        sampling = replace(
            self.answer_length(),
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=whole_number("Top-k", self.top_k),
        )
        answer_of = next((role for role in ROLES if role == self.answer_of), None)
        return LensRequest(self.text, self.format, answer_of, self.word, sampling)


def read(fields: LensFields) -> Work:
    """Return the work that scores the text under all variants and paints the scores as they grow.

    Raises:
        PromptError: a field is invalid.
    """
    request = fields.request()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        run.until_s = time.monotonic() + DEADLINE_S
        context = {"format": request.format, "run": time.monotonic()}

        def shown(reading: Reading) -> Painted:
            scores = available(reading.scores)
            lens = view.lens(scores, request.answer_of, reading.cost, request.word)
            return {"lens": packed({**lens, **context, "text": reading.text})}

        def growing(reading: Reading) -> Painted:
            if reading.step == "waiting":
                return busy(f"Others read texts. Waiting: place {reading.place} in the line")
            if reading.step == "answering" and request.answer_of:
                return busy(f"{ROLE_TITLES[request.answer_of]} answers")
            if reading.step == "costing":
                return {**shown(reading), **busy(f"What “{request.word.strip()}” would cost")}
            scores = available(reading.scores).values()
            count = sum(len(known.distributions) for known in scores)
            total = sum(len(known.pieces) for known in scores)
            asking = count == total and score_text.endpoints_note(trio)
            status = "Asking servers" if asking else f"Read {count:,} of {total:,} tokens"
            return {**(shown(reading) if total <= GROWING_TOKENS else {}), **busy(status)}

        states = while_wanted(read_text(trio, request, run.wanted, run.others), run)
        reading = yield from paint(states, growing, every_s=GROWING_S)
        if reading is None:
            return
        scores = available(reading.scores)
        if not run.wanted():
            status = f"{run.stop_reason()}; what was read is shown."
            yield {**(shown(reading) if scores else {}), **done(status)}
        elif scores:
            status = " ".join([view.summary_line(scores), reading.note, reading.problem]).strip()
            yield {**shown(reading), **done(status)}

    return work


def fork(fields: LensFields, choice: Any) -> Work:
    """Return the work that makes all variants continue a beginning with another last token.

    Args:
        fields: the fields of the tab.
        choice: from the browser: {"ids": the ids before that token, "id": its id, "instead": the
            text of the token that it replaces, if any, "text" and "format": those scored}.

    Raises:
        PromptError: a field is invalid, or the choice is of another shape.
    """
    sampling, ids, format = fields.answer_length(), _ids(choice), choice.get("format")
    text = str(choice.get("text") or "")
    prompt = Prompt("") if format == "same" else score_text.prompt_of(text)

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        encoder = next(iter(trio.encoders.values()), None)
        pieces = encoder.pieces(ids) if encoder else ()
        known = score_text.locally_encoded(trio, prompt, format)
        score_text.check_vocabularies(known)
        request = Request(
            prompt,
            sampling,
            format,
            roles=list(known),
            forced_prefix=dict.fromkeys(known, ids),
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
        status = " ".join([ended, score_text.endpoints_note(trio)]).strip()
        yield {**shown(last or answers), **done(status)}

    return work


def quantization(fields: LensFields) -> Work:
    """Return the work that compares the trio with its unquantised weights on the tab's text.

    Raises:
        PromptError: a field is invalid.
    """
    prompt, sampling = score_text.prompt_of(fields.text), fields.answer_length()

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        run.until_s = time.monotonic() + DEADLINE_S
        yield busy("Loading the unquantised weights, which takes some seconds")
        with unquantised(trio) as exact:
            if not run.wanted():
                yield done(f"{run.stop_reason()}.")
                return
            yield busy("Both answer, and read each other")
            reports = compare_quantization(
                trio, exact, prompt, fields.format, sampling, run.wanted, DEADLINE_S
            )
        if run.wanted():
            status = done("Compared with unquantised weights.")
            yield {"rounding": view.quantization(reports), **status}
        else:
            yield done(f"{run.stop_reason()}.")

    return work


def _ids(choice: Any) -> list[int]:
    """Return the ids that a fork continues, the chosen one last.

    Raises:
        PromptError: the choice contains no valid ids.
    """
    before = choice.get("ids") if isinstance(choice, dict) else None
    ids = [*before, choice.get("id")] if isinstance(before, list) else []
    if not ids or not all(isinstance(id, int) for id in ids):
        raise PromptError("A fork needs the ids before it and the id that is forced.")
    return ids
