"""Scores a text under all variants, with an optional answer to it and an optional next word."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from models import (
    GREEDY,
    Backend,
    Format,
    PromptError,
    Role,
    Sampling,
    ScoreRequest,
    Scores,
    Strengths,
)
from playground.comparison.waiting_line import WaitingLine
from playground.lens import score_text
from playground.lens.token_scores import SHOWN_TOP, LossSummary, available
from playground.prompting.forms import check_text

MAX_CHARACTERS = 1 << 17
"""Characters of a plain text of which tokens are made; 32 for each token of a context of 4,096."""
READINGS = WaitingLine(1)
"""The text that is read in this process, and those that wait: one of 4,095 tokens holds 46 MB, and
every chunk of it comes between two steps of everybody's answers."""
PAUSE = 3.0
"""Times the seconds of a chunk that answers get for themselves after it, while there are any."""
PAUSE_TICK_S = 0.25
"""Seconds between two looks for whether there still are."""


@dataclass(frozen=True, slots=True)
class LensRequest:
    """A text that all variants score, and what to compute besides its scores."""

    text: str
    """A plain text if `format` is "same"; an instruction if it is "own"."""
    format: Format = "same"
    """Each variant in its own format, or the same bytes to all."""
    answer_of: Role | None = None
    """The variant whose answer all variants score after the text; None scores the text alone."""
    word: str = ""
    """A word whose loss after the text is computed; empty for none."""
    sampling: Sampling = GREEDY
    """Settings for the probabilities after the sampler, and the length of the answer."""
    top: int = SHOWN_TOP
    """Number of most likely tokens of each distribution."""
    strengths: Strengths = field(default_factory=dict)
    """Scale of each variant's adapter."""

    def __post_init__(self) -> None:
        """Check what needs no model.

        Raises:
            PromptError: the text is empty, or a setting is invalid.
        """
        if self.sampling.is_penalised:
            raise PromptError(
                "Penalties depend on what an answer has said so far, and a text that is read is no "
                "answer. Leave them out."
            )
        prompt = score_text.prompt_of(self.text)
        uncut = self.word if self.format == "same" else max(self.text, self.word, key=len)
        if len(uncut) > MAX_CHARACTERS:
            raise PromptError(
                f"The text is {len(uncut):,} characters, and at most {MAX_CHARACTERS:,} are taken. "
                "Shorten it."
            )
        ScoreRequest(prompt, self.format, top=self.top, strengths=self.strengths)


@dataclass(frozen=True, slots=True)
class Reading:
    """The results for a text so far."""

    step: Literal["waiting", "answering", "scoring", "costing", "done"]
    """The current step."""
    text: str
    """The text, cut to the context if it is longer."""
    scores: Scores = field(default_factory=dict)
    cost: Mapping[Role, LossSummary] = field(default_factory=dict)
    """Loss of the word after the text."""
    note: str = ""
    """What was left out, and why."""
    problem: str = ""
    """Why the word's loss cannot be computed."""
    place: int = 0
    """Place in the line of texts to be read: 1 is next, 0 is not in it."""


def read(
    trio: Backend,
    request: LensRequest,
    wanted: Callable[[], bool] = lambda: True,
    others: Callable[[], bool] = lambda: False,
) -> Generator[Reading]:
    """Wait for a turn, score a text, and yield the results so far after each step.

    Args:
        trio: the trio whose variants score the text.
        request: the text, and what to compute.
        wanted: called after each token of the answer; if it returns False, the answer ends there.
        others: returns whether answers are being generated, for which the reading pauses.

    Raises:
        ModelError: the text cannot be encoded or scored, or the answer cannot be generated.
    """
    with READINGS.joined() as places:
        for place in places:
            yield Reading("waiting", request.text, place=place)
        yield from _read(trio, request, wanted, others)


def _read(
    trio: Backend, request: LensRequest, wanted: Callable[[], bool], others: Callable[[], bool]
) -> Generator[Reading]:
    text, note = request.text, ""
    if request.format == "same":
        text, note = cut_to_context(trio, text)
    prompt, strengths = score_text.prompt_of(text), request.strengths
    reading = Reading("answering", text, note=note)
    if request.answer_of is not None:
        yield reading
    tokens = request.sampling.max_new_tokens
    answer = score_text.answer_of(
        trio, prompt, request.answer_of, request.format, tokens, strengths, wanted
    )
    states = score_text.score_text(
        trio, prompt, format=request.format, answer=answer, top=request.top,
        sampling=request.sampling, strengths=strengths,
    )  # fmt: skip
    with closing(states):
        began = time.monotonic()
        for scores in states:
            reading = replace(reading, step="scoring", scores=scores)
            until_s = time.monotonic() + PAUSE * (time.monotonic() - began)
            yield reading
            while time.monotonic() < until_s and wanted() and others():
                time.sleep(PAUSE_TICK_S)
                yield reading
            began = time.monotonic()
    missing = score_text.missing_scores(trio, reading.scores)
    reading = replace(reading, note=f"{note} {missing}".strip())
    if request.word.strip() and available(reading.scores):
        yield replace(reading, step="costing")
        try:
            cost = score_text.cost(trio, prompt, request.format, request.word, strengths)
            reading = replace(reading, cost=cost)
        except PromptError as error:  # the scores are valid without the word's loss
            reading = replace(reading, problem=str(error))
    yield replace(reading, step="done")


def cut_to_context(trio: Backend, text: str) -> tuple[str, str]:
    """Cut a plain text to the context; return it and a note on what was cut, empty if nothing.

    The cut is between two tokens of the first variant that is tokenized here.

    Raises:
        PromptError: the text is not a string, or contains a lone surrogate.
    """
    check_text("text", text)
    room = trio.trio.max_context - 1
    encoder = next(iter(trio.encoders.values()), None)
    kept, length = min(len(text), MAX_CHARACTERS), f"{len(text):,} characters"
    pieces = encoder.tokens(text[:kept], opening=True) if encoder else ()
    if len(pieces) > room:
        length = f"{len(pieces):,} tokens" if kept == len(text) else length
        kept = len(b"".join(piece.data for piece in pieces[:room]).decode(errors="ignore"))
    if kept == len(text):
        return text, ""
    return text[:kept], (
        f"{length} are more than the context of {trio.trio.max_context:,}: the "
        f"first {kept:,} characters are read, the last {len(text) - kept:,} are not."
    )
