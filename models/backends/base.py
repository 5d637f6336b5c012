"""The protocol that all answers come through: weights here, servers, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from models.events import Events
from models.logprobs import TokenDistribution, Told
from models.model_info import Memory, ModelInfo
from models.request import Request
from models.types import (
    GREEDY,
    NONE,
    EncodedPrompt,
    Format,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
    Trio,
)


class Backend(Protocol):
    """Answers for the variants of one trio."""

    trio: Trio

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Return what each variant's model is sent, without running any.

        Raises:
            PromptError: the prompt is no text, or too long for the context.
        """
        ...

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return an answer's tokens as a training row of each variant would hold them.

        They follow what `sent` returns of the prompt, and the last one ends the text. An endpoint
        tells none of its tokens: it is left out here, in `tokens` and in `pieces`.

        Raises:
            PromptError: the prompt cannot be sent, or the answer is empty.
        """
        ...

    def loaded(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Return which weights answer for each variant.

        Raises:
            PromptError: a strength is out of its range, or of a variant without an adapter.
        """
        ...

    def memory(self) -> Memory:
        """Return what the trio holds."""
        ...

    def stream(self, request: Request) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each.

        Nothing runs before the first `next`. Sending a collection of roles cancels those variants
        alone. Closing the generator cancels all: the step under way ends, and what it held is
        freed. Where labels are to be ranked, `Ranked` comes before a variant's first token.

        Raises:
            PromptError: the prompt cannot be sent to one of the variants, or a strength cannot be;
                none has run.
        """
        ...

    def tokens(self, text: str, opening: bool = False) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return a plain text's tokens, the tokenizer's own opening ones on request.

        Raises:
            PromptError: it holds something that is no text.
        """
        ...

    def pieces(self, ids: Sequence[int]) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return tokens by their ids, as each variant's vocabulary has them.

        Raises:
            PromptError: a vocabulary has no such id.
        """
        ...

    def read(
        self,
        ids: Mapping[Role, Sequence[int]],
        likeliest: int = 0,
        sampling: Sampling = GREEDY,
        strengths: Strengths = NONE,
    ) -> Iterator[dict[Role, list[TokenDistribution]]]:
        """Yield, chunk by chunk, what each variant expects after every token of a text.

        Each time all that is known so far: entry t is what is expected after token t. Variants of
        one engine are read in one batch; other people's steps come in between. At no time are more
        logits held than those of 96 tokens.

        Args:
            ids: what each variant reads, in the order of `EncodedPrompt.ids` and of answers' ids.
            likeliest: how many of the likeliest tokens are told, from 0 to 64.
            sampling: for the probabilities that a draw would be made by.
            strengths: scales of the adapters.

        Raises:
            PromptError: a text has no token or does not fit the context or the memory; a strength
                cannot be; an endpoint is asked, which does not tell what a text costs it.
        """
        ...

    def told(
        self, prompt: Prompt, format: Format = "own", answer: str = "", likeliest: int = 0
    ) -> Iterator[dict[Role, Told | str]]:
        """Yield, now and then, what endpoints tell of a prompt and of an answer that follows it.

        Each time all that is known so far: what an endpoint tells, or why it tells nothing.
        Variants whose tokens are known here are `read` instead.

        Raises:
            PromptError: the prompt is no text.
        """
        ...

    def close(self) -> None:
        """Free the weights."""
        ...
