"""The protocol that all answers come through: from weights here, from servers, or from both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from models.events import Events
from models.logprobs import Scores
from models.model_info import Memory, ModelInfo
from models.request import Request, ScoreRequest
from models.types import NONE, EncodedPrompt, Format, Prompt, Role, Strengths, TokenPiece, Trio


class TokenEncoder(Protocol):
    """Text ↔ tokens of one variant."""

    def tokens(self, text: str, opening: bool = False) -> tuple[TokenPiece, ...]:
        """Return a plain text's tokens; `opening` adds the special tokens that open a text.

        Raises:
            PromptError: it holds something that is no text.
        """
        ...

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return tokens by their ids.

        Raises:
            PromptError: the vocabulary has no such id.
        """
        ...

    def completion(self, prompt: EncodedPrompt, answer: str) -> tuple[TokenPiece, ...]:
        """Return an answer's tokens after a prompt, as a training row would hold them.

        The last one ends the text.

        Raises:
            PromptError: the answer is empty.
        """
        ...


class Backend(Protocol):
    """Answers for the variants of one trio."""

    trio: Trio

    @property
    def encoders(self) -> Mapping[Role, TokenEncoder]:
        """Encoders of the variants whose tokens are known here; a server tokenizes on its side."""
        ...

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Return what each variant's model is sent, without running any.

        Args:
            prompt: what is asked.
            format: each variant in its own format, or the same bytes to all.
            stop_texts: end answers of text variants where the layout would begin again.

        Raises:
            PromptError: the prompt is no text, or too long for the context.
        """
        ...

    def model_info(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Return which weights answer for each variant.

        Raises:
            PromptError: a strength is out of its range, or of a variant without an adapter.
        """
        ...

    def memory(self) -> Memory:
        """Return the bytes that the trio takes here."""
        ...

    def stream(self, request: Request) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each.

        Nothing runs before the first `next`. Sending a collection of roles cancels those variants
        alone. Closing the generator cancels all: the step under way ends, and what it held is
        freed. Where labels are given, `Ranked` comes before a variant's first token.

        Raises:
            PromptError: the prompt cannot be sent to one of the variants, or a strength cannot be;
                none has run.
        """
        ...

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Yield, chunk by chunk, the loss and rank of every token of a text under each variant.

        Each time all that is known so far. Variants of one engine are scored in one batch; other
        people's steps come in between. A server that gives no log-probabilities is `Unavailable`.

        Raises:
            PromptError: the text does not fit the context or the memory, or a strength cannot be.
        """
        ...

    def close(self) -> None:
        """Free the weights; what is asked afterwards is refused."""
        ...
