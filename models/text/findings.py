"""Finds faults of an encoded prompt: in what its template renders, and in its tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from models.text.chat_template import ChatTemplate
from models.text.render import continued, to_message
from models.text.tokenization import Tokenization
from models.types import Finding, Prompt, TokenPiece


def find_faults(
    prompt: Prompt,
    text: str,
    pieces: tuple[TokenPiece, ...],
    chat: ChatTemplate | None,
    tokenization: Tokenization,
    eos_ids: Collection[int],
) -> Iterator[Finding]:
    """Yield faults of a prompt's text and tokens, with their cures.

    Args:
        prompt: the prompt.
        text: the prompt as it was rendered.
        pieces: its tokens.
        chat: the template that rendered it; None if it is plain text.
        tokenization: the tokenizer of `pieces`.
        eos_ids: ids of the tokens that end a text.
    """
    if chat:
        yield from chat.findings(to_message(prompt), text)
    begun = chat is not None and chat.adds_beginning(to_message(prompt), text)
    if not begun:
        yield from _end_of_text(pieces, eos_ids)
    yield from _bos(text, pieces, chat, tokenization)
    yield from _outputs(prompt, text, tokenization)


def _end_of_text(pieces: tuple[TokenPiece, ...], eos_ids: Collection[int]) -> Iterator[Finding]:
    filled = [piece for piece in pieces if piece.special or piece.text.strip()]
    if filled and filled[-1].id in eos_ids:
        yield Finding(
            "error",
            f"The prompt ends with {filled[-1].text}, which ends a text: what follows it is "
            "another text.",
            "Set add_eos_token to false in tokenizer_config.json, or take the token out of the "
            "chat template.",
        )


def _bos(
    text: str,
    pieces: tuple[TokenPiece, ...],
    chat: ChatTemplate | None,
    tokenization: Tokenization,
) -> Iterator[Finding]:
    """Yield whether the token that begins a text stands too often, or is missing."""
    bos, name = tokenization.tokenizer.bos_token_id, tokenization.tokenizer.bos_token
    count = sum(piece.id == bos for piece in pieces) if bos is not None else 0
    # Some models begin every turn with it: a template's own are as many as it wrote, apart.
    written = text.count(name) if chat and name else 1
    if count > max(1, written) or (count > 1 and pieces[1].id == bos):
        yield Finding(
            "error",
            f"{name} stands {count} times.",
            "Take it out of the text: the tokenizer or the template puts it there.",
        )
    if not count and bos in tokenization.ids("", add=True):
        yield Finding(
            "warning",
            f"{name} is missing, which this model's texts begin with; the chat template writes "
            "none.",
            "Begin the template with {{ bos_token }}, unless the variant was trained without it.",
        )


def _outputs(prompt: Prompt, text: str, tokenization: Tokenization) -> Iterator[Finding]:
    """Yield the demonstrations' outputs that would change the prompt's last token."""
    outputs = dict.fromkeys(shot.output for shot in prompt.demonstrations)
    own = tokenization.ids(text, literal=True) if outputs else []
    for output in outputs:
        together = tokenization.ids(text + continued(text, output), literal=True)
        if together[: len(own)] != own:
            yield Finding(
                "error",
                f"The answer {output!r} changes the last token of this prompt.",
                "Begin the answer with a letter or a digit, not with a blank.",
            )
