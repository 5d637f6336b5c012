"""What happens on the Lens tab. Knows names of outputs, not components."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
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
from playground.comparison.compare import begin, follow
from playground.lens import score_text
from playground.lens.quantization import compare_quantization, unquantised
from playground.lens.token_scores import LossSummary, available
from playground.ui.answer_view import ROLE_TITLES, packed
from playground.ui.session import Painted, Wanted, busy, done
from playground.ui.tabs.compare.events import DEADLINE_S, PAINT_S, whole
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
            whole("Most new tokens", self.max_new_tokens),
            self.temperature,
            self.top_p,
            whole("Top-k", self.top_k),
        )

    @property
    def role(self) -> Role | None:
        """Whose answer is read."""
        return next((role for role in ROLES if role == self.answer_of), None)


def read(fields: LensFields) -> Callable[[Backend, Wanted], Generator[Painted]]:
    """Return what reads the text under all variants, and yields the readings as they grow."""

    def work(trio: Backend, wanted: Wanted) -> Generator[Painted]:
        text, note = fields.text, ""
        if fields.format == "same":
            text, note = score_text.fitting(trio, text)
        prompt, sampling = score_text.prompt_of(text), fields.sampling
        if fields.role:
            yield busy(f"{ROLE_TITLES[fields.role]} answers")
        answer = score_text.answer_of(
            trio, prompt, fields.role, fields.format, sampling.max_new_tokens, wanted=wanted
        )
        run, painted = time.monotonic(), 0.0
        scores: Scores = {}
        asked = {"format": fields.format, "text": text, "run": run}

        def shown(cost: dict[Role, LossSummary] | None = None) -> Painted:
            lens = view.lens(available(scores), fields.role, cost, fields.word)
            return {"lens": packed({**lens, **asked})}

        for scores in score_text.score_text(
            trio, prompt, format=fields.format, answer=answer, sampling=sampling
        ):
            if not wanted():
                yield {**shown(), **done("Stopped; what was read is shown.")}
                return
            if time.monotonic() - painted >= GROWING_S:
                painted = time.monotonic()
                count = sum(len(one.after) for one in available(scores).values())
                total = sum(len(one.pieces) for one in available(scores).values())
                growing = shown() if total <= GROWING_TOKENS else {}
                asking = count == total and score_text.left_out(trio)
                doing = "Asking servers" if asking else f"Read {count:,} of {total:,} tokens"
                yield {**growing, **busy(doing)}
        cost = None
        note = " ".join([note, score_text.missing_scores(trio, scores)]).strip()
        if fields.word.strip() and available(scores):
            yield {**shown(), **busy(f"What “{fields.word.strip()}” would cost")}
            try:
                cost = score_text.cost(trio, prompt, fields.format, fields.word)
            except PromptError as error:  # the reading stands without it
                note = f"{note} {error}".strip()
        if available(scores):
            yield {
                **shown(cost),
                **done(" ".join([view.summary_line(available(scores)), note]).strip()),
            }

    return work


def fork(fields: LensFields, asked: Any) -> Callable[[Backend, Wanted], Generator[Painted]]:
    """Return what has all variants go on from a beginning with another token in it.

    Args:
        fields: of the tab.
        asked: from the browser: {"ids": the beginning's ids, "id": the other token, "instead": the
            text of the one that stood there, "text" and "format": what was read}.
    """

    def work(trio: Backend, wanted: Wanted) -> Generator[Painted]:
        before, other = _beginning(trio, asked)
        pieces, format = (*before, *other), asked.get("format")
        text = asked.get("text")
        prompt = Prompt("") if format == "same" else score_text.prompt_of(str(text or ""))
        known = score_text.readable(trio, prompt, format)
        score_text.check_vocabularies(known)
        request = Request(
            prompt,
            Sampling(whole("Most new tokens", fields.max_new_tokens)),
            format,
            roles=list(known),
            forced_prefix=[piece.id for piece in pieces],
            deadline_s=DEADLINE_S,
        )
        answers = begin(trio, request)
        instead = str(asked.get("instead") or "")
        title = f"“{view.visible([other[0].text])}”" + (
            f" instead of “{view.visible([instead])}”" if instead else ""
        )
        forced_prefix = view.visible([piece.text for piece in pieces])
        run, painted = time.monotonic(), 0.0
        with closing(follow(answers, trio.stream(request))) as states:
            try:
                answers = next(states)
                while True:
                    if time.monotonic() - painted >= PAINT_S:
                        painted = time.monotonic()
                        shown = view.fork(run, title, forced_prefix, answers)
                        yield {"forks": shown, **busy("Going on from there")}
                    answers = states.send(None if wanted() else ROLES)
            except StopIteration:
                shown = view.fork(run, title, forced_prefix, answers)
        ended = f"All went on from {title}." if wanted() else "Stopped."
        yield {"forks": shown, **done(" ".join([ended, score_text.left_out(trio)]).strip())}

    return work


def rounded(fields: LensFields) -> Callable[[Backend, Wanted], Generator[Painted]]:
    """Return what compares the trio with its unquantised self on the tab's text."""

    def work(trio: Backend, wanted: Wanted) -> Generator[Painted]:
        prompt = score_text.prompt_of(fields.text)
        yield busy("Loading the unquantised weights, which takes some seconds")
        with unquantised(trio) as stored:
            if not wanted():
                yield done("Stopped.")
                return
            yield busy("Both answer, and read each other")
            tokens = whole("Most new tokens", fields.max_new_tokens)
            found = compare_quantization(trio, stored, prompt, fields.format, tokens, wanted)
        if wanted():
            told = done("Compared with unquantised weights.")
            yield {"rounding": view.quantization(found), **told}
        else:
            yield done("Stopped.")

    return work


def _beginning(trio: Backend, asked: Any) -> tuple[Sequence[TokenPiece], Sequence[TokenPiece]]:
    """Return the tokens that are kept, and the one that is forced.

    Raises:
        PromptError: they are no ids of the vocabulary.
    """
    given = asked if isinstance(asked, dict) else {}
    before = given.get("ids")
    ids = [*before, given.get("id")] if isinstance(before, list) else []
    whole = [one for one in ids if isinstance(one, int)]
    if not ids or whole != ids:
        raise PromptError("A fork needs the ids before it and the id that is forced.")
    encoder = next(iter(trio.encoders.values()), None)
    pieces = encoder.pieces(whole) if encoder else ()
    return pieces[:-1], pieces[-1:]
