"""What happens on the Lens tab. Knows names of outputs, not components."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from models import (
    ROLES,
    Backend,
    Format,
    Piece,
    Prompt,
    PromptError,
    Role,
    Sampling,
)
from playground import lens
from playground.compare import begin, follow
from playground.lens import Sums
from playground.rounding import rounding, unquantised
from playground.ui import lens_view
from playground.ui.events import DEADLINE_S, PAINT_S
from playground.ui.runs import Painted, Wanted, busy, done
from playground.ui.views import ROLE_TITLES

GROWING_S = 0.5
"""Seconds between two paintings of a text that is being read."""


@dataclass(frozen=True, slots=True)
class Fields:
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
            int(self.max_new_tokens), self.temperature, self.top_p, int(self.top_k or 0)
        )

    @property
    def role(self) -> Role | None:
        """Whose answer is read."""
        return next((role for role in ROLES if role == self.answer_of), None)


def read(fields: Fields) -> Callable[[Backend, Wanted], Iterator[Painted]]:
    """Return what reads the text under all variants, and yields the readings as they grow."""

    def work(trio: Backend, wanted: Wanted) -> Iterator[Painted]:
        text, note = fields.text, ""
        if fields.format == "same":
            text, note = lens.fitting(trio, text)
        note = " ".join([note, lens.left_out(trio)]).strip()
        prompt, sampling = lens.prompt_of(text), fields.sampling
        cost = _cost(trio, prompt, fields) if fields.word.strip() else None
        if fields.role:
            yield busy(f"{ROLE_TITLES[fields.role]} answers")
        greedy = Sampling(sampling.max_new_tokens)
        answer = lens.answer_of(trio, prompt, fields.role, fields.format, greedy)
        painted, readings = 0.0, None
        for readings in lens.read(
            trio, prompt, format=fields.format, answer=answer, sampling=sampling
        ):
            if not wanted():
                yield done("Stopped; what was read is shown.")
                return
            if time.monotonic() - painted >= GROWING_S:
                painted = time.monotonic()
                count = sum(len(one.after) for one in readings.values())
                total = sum(len(one.pieces) for one in readings.values())
                shown = lens_view.lens(readings, fields.role, cost, fields.word)
                yield {"lens": shown, **busy(f"Read {count:,} of {total:,} tokens")}
        if readings:
            shown = lens_view.lens(readings, fields.role, cost, fields.word)
            yield {"lens": shown, **done(" ".join([lens_view.told(readings), note]).strip())}

    return work


def _cost(trio: Backend, prompt: Prompt, fields: Fields) -> dict[Role, Sums]:
    """Return what a word would cost each variant next; it begins with a space if it needs one."""
    glued = prompt.instruction[-1:].isspace() or fields.word[:1].isspace()
    word = fields.word if glued else f" {fields.word}"
    pieces = next(iter(trio.tokens(word).values()), ())
    *_, readings = lens.read(trio, prompt, format=fields.format, answer=pieces, likeliest=0)
    costs = {role: one.sums(answer=True) for role, one in readings.items()}
    return {role: one for role, one in costs.items() if one}


def fork(fields: Fields, asked: Any) -> Callable[[Backend, Wanted], Iterator[Painted]]:
    """Return what has all variants go on from a beginning with another token in it.

    Args:
        fields: of the tab.
        asked: from the browser: {"ids": the beginning's ids, "id": the other token, "instead": the
            text of the one that stood there}.
    """

    def work(trio: Backend, wanted: Wanted) -> Iterator[Painted]:
        before, other = _beginning(trio, asked)
        pieces = (*before, *other)
        prompt = Prompt("") if fields.format == "same" else lens.prompt_of(fields.text)
        lens.check_vocabularies(trio.sent(prompt, fields.format))
        sampling = Sampling(int(fields.max_new_tokens))
        answers = begin(trio, prompt, fields.format)
        stream = trio.stream(
            prompt,
            sampling,
            fields.format,
            deadline_s=DEADLINE_S,
            begun=[piece.id for piece in pieces],
        )
        instead = str(asked.get("instead") or "")
        title = f"“{lens_view.visible([other[0].text])}”" + (
            f" instead of “{lens_view.visible([instead])}”" if instead else ""
        )
        begun = lens_view.visible([piece.text for piece in pieces])
        painted = 0.0
        with closing(follow(answers, stream)) as states:
            try:
                answers = next(states)
                while True:
                    if time.monotonic() - painted >= PAINT_S:
                        painted = time.monotonic()
                        shown = lens_view.fork(title, begun, answers)
                        yield {"forks": shown, **busy("Going on from there")}
                    answers = states.send(None if wanted() else ROLES)
            except StopIteration:
                shown = lens_view.fork(title, begun, answers)
        yield {"forks": shown, **done(f"All went on from {title}.")}

    return work


def rounded(fields: Fields) -> Callable[[Backend, Wanted], Iterator[Painted]]:
    """Return what compares the trio with its unquantised self on the tab's text."""

    def work(trio: Backend, wanted: Wanted) -> Iterator[Painted]:
        prompt = lens.prompt_of(fields.text)
        yield busy("Loading the unquantised weights, which takes some seconds")
        with unquantised(trio, lambda progress: None) as whole:
            if not wanted():
                yield done("Stopped.")
                return
            yield busy("Both answer, and read each other")
            found = rounding(trio, whole, prompt, fields.format, int(fields.max_new_tokens))
        yield {"rounding": lens_view.rounding(found), **done("Compared with unquantised weights.")}

    return work


def _beginning(trio: Backend, asked: Any) -> tuple[Sequence[Piece], Sequence[Piece]]:
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
    pieces = next(iter(trio.pieces(whole).values()), ())
    return pieces[:-1], pieces[-1:]
