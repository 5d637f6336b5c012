"""The backend protocol: one interface to a trio on local weights, on servers, or on both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from models.events import Events
from models.logprobs import Scores
from models.model_info import Memory, ModelInfo
from models.request import Request, ScoreRequest
from models.types import (
    AS_TRAINED,
    EncodedPrompt,
    Format,
    Prompt,
    Role,
    Strengths,
    TokenPiece,
    Trio,
)


class TokenEncoder(Protocol):
    """Tokenizer interface of one variant: text → tokens, and ids → tokens."""

    def tokens(self, text: str, opening: bool = False) -> tuple[TokenPiece, ...]:
        """Tokenize plain text; `opening` prepends the special tokens that start a text (BOS).

        Raises:
            PromptError: the text contains a lone surrogate.
        """
        ...

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return the tokens with the given ids.

        Raises:
            PromptError: the vocabulary has no such id.
        """
        ...

    def following(self, sent: EncodedPrompt, text: str) -> tuple[TokenPiece, ...]:
        """Tokenize plain text as it stands after an encoded prompt.

        Raises:
            PromptError: the text contains a lone surrogate.
        """
        ...

    def completion(self, prompt: EncodedPrompt, answer: str) -> tuple[TokenPiece, ...]:
        """Tokenize an answer after a prompt as in a training row, with the end-of-text token.

        Raises:
            PromptError: the answer is empty.
        """
        ...


class Backend(Protocol):
    """Answers prompts and scores texts with the variants of one trio."""

    trio: Trio

    @property
    def encoders(self) -> Mapping[Role, TokenEncoder]:
        """Encoders of the variants with local weights; servers tokenize on their own side."""
        ...

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Render and tokenize a prompt for each variant, without running a model.

        Args:
            prompt: the prompt.
            format: each variant in its own format, or the same bytes to all.
            stop_texts: whether answers of text variants end where they start a new demonstration.

        Raises:
            PromptError: the prompt contains a lone surrogate, or is too long for the context.
        """
        ...

    def model_info(self, strengths: Strengths = AS_TRAINED) -> dict[Role, ModelInfo]:
        """Return which weights answer for each variant.

        Raises:
            PromptError: a strength is out of range, or given for a variant without an adapter.
        """
        ...

    def memory(self) -> Memory:
        """Return the memory that the trio takes on this machine, in bytes."""
        ...

    def stream(self, request: Request) -> Events:
        """Yield the tokens of all variants as they are generated, and one `Stop` for each variant.

        Nothing runs before the first `next`. Sending in a collection of roles cancels only those
        variants. Closing the generator cancels all: the current step finishes, and the request's
        memory is freed. If the request has labels, `Ranked` precedes a variant's first token.

        Raises:
            PromptError: the prompt or a strength is invalid for one of the variants; none has run.
        """
        ...

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Yield, chunk by chunk, the loss and rank of every token of a text under each variant.

        Each item holds all scores so far. Variants of one engine are scored in one batch; steps of
        other requests run in between. A variant is `Unavailable` if its server returns no
        log-probabilities.

        Raises:
            PromptError: the text does not fit the context or the memory, or a strength is invalid.
        """
        ...

    def close(self) -> None:
        """Free the weights; later calls are refused."""
        ...
