"""Scores a text under all variants, with an optional answer to it and an optional next word."""

from __future__ import annotations

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
from playground.lens import score_text
from playground.lens.token_scores import SHOWN_TOP, LossSummary, available


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
        prompt = score_text.prompt_of(self.text)
        ScoreRequest(prompt, self.format, top=self.top, strengths=self.strengths)


@dataclass(frozen=True, slots=True)
class Reading:
    """The results for a text so far."""

    step: Literal["answering", "scoring", "costing", "done"]
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


def read(
    trio: Backend, request: LensRequest, wanted: Callable[[], bool] = lambda: True
) -> Generator[Reading]:
    """Score a text, and yield the results so far after each step.

    Args:
        trio: the trio whose variants score the text.
        request: the text, and what to compute.
        wanted: called after each token of the answer; if it returns False, the answer ends there.

    Raises:
        ModelError: the text cannot be encoded or scored, or the answer cannot be generated.
    """
    text, note = request.text, ""
    if request.format == "same":
        text, note = score_text.cut_to_context(trio, text)
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
        for scores in states:
            reading = replace(reading, step="scoring", scores=scores)
            yield reading
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
