"""What answers for a trio: one protocol, and the one place that chooses between its kinds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from models.types import (
    ROLES,
    Events,
    Format,
    Loaded,
    Memory,
    Piece,
    Progress,
    Prompt,
    Role,
    Sampling,
    Sent,
    Trio,
)


class Backend(Protocol):
    """Answers for the variants of one trio."""

    trio: Trio

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, Sent]:
        """Return what each variant's model is sent, without running any.

        Raises:
            PromptError: the prompt is no text, or too long for the context.
        """
        ...

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[Piece, ...]]:
        """Return an answer's tokens as a training row of each variant would hold them.

        They follow what `sent` returns of the prompt, and the last one ends the text.

        Raises:
            PromptError: the prompt cannot be sent, or the answer is empty.
        """
        ...

    def loaded(self) -> dict[Role, Loaded]:
        """Return which weights answer for each variant."""
        ...

    def memory(self) -> Memory:
        """Return what the trio holds."""
        ...

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        format: Format = "own",
        stop_texts: bool = True,
        deadline_s: float | None = None,
        labels: Sequence[str] = (),
        roles: Collection[Role] = ROLES,
    ) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each.

        Nothing runs before the first `next`. Sending a collection of roles cancels those variants
        alone. Closing the generator cancels all: the step under way ends, and what it held is
        freed. `deadline_s` counts from the turn's beginning.

        With labels, each variant first tells how likely each is as what follows (`Ranked`). Only
        the variants of `roles` answer.

        Raises:
            PromptError: the prompt cannot be sent to one of the variants; none has run.
        """
        ...

    def losses(self, text: str) -> Iterator[dict[Role, list[float]]]:
        """Yield, chunk by chunk, the loss of every token of a plain text under each variant.

        Each time all that is known so far, in nats: entry t is -log p(token t + 1 | those before).
        Other people's steps come in between.

        Raises:
            PromptError: it is no text, too long for the context, or of one token alone.
        """
        ...

    def close(self) -> None:
        """Free the weights."""
        ...


def open_backend(trio: Trio, report: Callable[[Progress], None] | None = None) -> Backend:
    """Load a trio, whatever its sources.

    Raises:
        ModelError: something cannot be had or does not fit.
    """
    from models.local import LocalBackend

    return LocalBackend(trio, report or (lambda progress: None))


def preview(
    trio: Trio, prompt: Prompt, format: Format = "own", stop_texts: bool = True
) -> dict[Role, Sent]:
    """Return what each variant's model would be sent; loads tokenizers, no weights.

    Raises:
        ModelError: a tokenizer cannot be had, or the prompt cannot be sent.
    """
    from models.local import encoders_of, sent_to_all

    return sent_to_all(encoders_of(trio, lambda progress: None), trio, prompt, format, stop_texts)
