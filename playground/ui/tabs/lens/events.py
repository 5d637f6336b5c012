"""The Lens tab's fields, and what its events do. Knows the names of its parts, not Gradio."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from models import (
    ROLES,
    Backend,
    Format,
    Prompt,
    PromptError,
    Request,
    Role,
    Sampling,
    Scores,
    TokenPiece,
)
from playground.comparison.compare import Answers, begin, follow
from playground.lens import score_text
from playground.lens.quantization import compare_quantization, unquantised
from playground.lens.token_scores import LossSummary, TrioScores, available
from playground.ui.answer_view import ROLE_TITLES, packed
from playground.ui.fields import whole_number
from playground.ui.session import (
    DEADLINE_S,
    Painted,
    Run,
    Work,
    busy,
    done,
    paint,
    while_wanted,
)
from playground.ui.tabs.lens import view

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

    @property
    def sampling(self) -> Sampling:
        """The sampler, whose effect is shown."""
        return Sampling(
            whole_number("Most new tokens", self.max_new_tokens),
            self.temperature,
            self.top_p,
            whole_number("Top-k", self.top_k),
        )

    @property
    def role(self) -> Role | None:
        """Whose answer is read."""
        return next((role for role in ROLES if role == self.answer_of), None)


def read(fields: LensFields) -> Work:
    """Return what reads the text under all variants, and paints its scores as they grow."""

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        text, note = fields.text, ""
        if fields.format == "same":
            text, note = score_text.fitting(trio, text)
        prompt, sampling = score_text.prompt_of(text), fields.sampling
        if fields.role:
            yield busy(f"{ROLE_TITLES[fields.role]} answers")
        answer = score_text.answer_of(
            trio, prompt, fields.role, fields.format, sampling.max_new_tokens, wanted=run.wanted
        )
        context = {"format": fields.format, "text": text, "run": time.monotonic()}

        def shown(known: TrioScores, cost: dict[Role, LossSummary] | None = None) -> Painted:
            lens = view.lens(known, fields.role, cost, fields.word)
            return {"lens": packed({**lens, **context})}

        def growing(results: Scores) -> Painted:
            known = available(results)
            read = sum(len(scores.distributions) for scores in known.values())
            total = sum(len(scores.pieces) for scores in known.values())
            asking = read == total and score_text.left_out(trio)
            status = "Asking servers" if asking else f"Read {read:,} of {total:,} tokens"
            return {**(shown(known) if total <= GROWING_TOKENS else {}), **busy(status)}

        states = score_text.score_text(
            trio, prompt, format=fields.format, answer=answer, sampling=sampling
        )
        scores = yield from paint(while_wanted(states, run), growing, every_s=GROWING_S)
        known = available(scores or {})
        if not run.wanted():
            yield {**shown(known), **done("Stopped; what was read is shown.")}
            return
        cost = None
        note = " ".join([note, score_text.missing_scores(trio, scores or {})]).strip()
        if fields.word.strip() and known:
            yield {**shown(known), **busy(f"What “{fields.word.strip()}” would cost")}
            try:
                cost = score_text.cost(trio, prompt, fields.format, fields.word)
            except PromptError as error:  # the scores stand without it
                note = f"{note} {error}".strip()
        if known:
            yield {
                **shown(known, cost),
                **done(" ".join([view.summary_line(known), note]).strip()),
            }

    return work


def fork(fields: LensFields, choice: Any) -> Work:
    """Return what has all variants go on from a beginning with another token in it.

    Args:
        fields: of the tab.
        choice: from the browser: {"ids": the beginning's ids, "id": the other token, "instead":
            the text of the token that stood there, "text" and "format": what was read}.
    """

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        before, other = _beginning(trio, choice)
        pieces, format = (*before, *other), choice.get("format")
        text = choice.get("text")
        prompt = Prompt("") if format == "same" else score_text.prompt_of(str(text or ""))
        known = score_text.readable(trio, prompt, format)
        score_text.check_vocabularies(known)
        request = Request(
            prompt,
            Sampling(whole_number("Most new tokens", fields.max_new_tokens)),
            format,
            roles=list(known),
            forced_prefix=[piece.id for piece in pieces],
            deadline_s=DEADLINE_S,
        )
        answers = begin(trio, request)
        instead = str(choice.get("instead") or "")
        title = f"“{view.visible([other[0].text])}”" + (
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
    """Return what compares the trio with its unquantised self on the tab's text."""

    def work(trio: Backend, run: Run) -> Generator[Painted]:
        prompt = score_text.prompt_of(fields.text)
        yield busy("Loading the unquantised weights, which takes some seconds")
        with unquantised(trio) as exact:
            if not run.wanted():
                yield done("Stopped.")
                return
            yield busy("Both answer, and read each other")
            tokens = whole_number("Most new tokens", fields.max_new_tokens)
            reports = compare_quantization(trio, exact, prompt, fields.format, tokens, run.wanted)
        if run.wanted():
            status = done("Compared with unquantised weights.")
            yield {"rounding": view.quantization(reports), **status}
        else:
            yield done("Stopped.")

    return work


def _beginning(trio: Backend, choice: Any) -> tuple[Sequence[TokenPiece], Sequence[TokenPiece]]:
    """Return the tokens that are kept, and the one that is forced.

    Raises:
        PromptError: they are no ids of the vocabulary.
    """
    given = choice if isinstance(choice, dict) else {}
    before = given.get("ids")
    ids = [*before, given.get("id")] if isinstance(before, list) else []
    whole = [id for id in ids if isinstance(id, int)]
    if not ids or whole != ids:
        raise PromptError("A fork needs the ids before it and the id that is forced.")
    encoder = next(iter(trio.encoders.values()), None)
    pieces = encoder.pieces(whole) if encoder else ()
    return pieces[:-1], pieces[-1:]
