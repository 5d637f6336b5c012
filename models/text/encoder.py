"""A prompt as one variant's model gets it: rendered by how the variant reads, tokenised once.

Raw text takes the tokenizer's own special tokens; a rendered template brings its own and takes
none. What a person typed is text even where it spells a special token: it never becomes one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

from models.engine.interface import TokenIdDistribution
from models.errors import PromptError, TrioError
from models.logprobs import TokenDistribution, TopToken
from models.text.render import Message, check_characters, continued, stop_text, to_message, to_text
from models.types import EncodedPrompt, Finding, Format, Prompt, TokenPiece, Variant

_ENCODING = threading.Lock()
"""A fast tokenizer keeps whether it splits special tokens, and other threads would see it."""


class Encoder:
    """Renders and tokenises for one variant."""

    def __init__(self, variant: Variant, tokenizer: Any, template: str | None) -> None:
        """Take a fast tokenizer and the chat template, if the variant reads chat.

        Raises:
            TrioError: the variant reads chat and there is no template.
        """
        if variant.reads == "chat" and not template:
            raise TrioError(
                f"{variant.name} reads chat, but neither its adapter nor its base has a chat "
                "template. Put chat_template.jinja beside the adapter, or say reads = 'text'."
            )
        self.variant = variant
        self.tokenizer = tokenizer
        self._template = template
        self._size = len(tokenizer)
        """Of the vocabulary; a tokenizer counts it anew whenever it is asked, which takes long."""
        self._pieces: dict[int, TokenPiece] = {}
        """What was shown before: to decode a token takes as long as to read it."""
        specials = sorted(tokenizer.all_special_tokens + _control_tokens(tokenizer), key=len)
        self._special = re.compile("|".join(map(re.escape, reversed(specials))))
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(specials))

    def sent(self, prompt: Prompt, format: Format, stop_texts: bool = True) -> EncodedPrompt:
        """Return what the variant's model is sent.

        Args:
            prompt: what was asked.
            format: in the variant's own format, or the same bytes as all.
            stop_texts: end an answer of a text variant where the layout would begin again.

        Raises:
            PromptError: the prompt holds something that is no text.
        """
        whole = to_text(prompt)
        check_characters(whole)
        chat = format == "own" and self.variant.reads == "chat"
        if chat:
            text, ids = self._chat(prompt)
        else:
            text = whole + (self.variant.ends_with if format == "own" else "")
            ids = self._ids(text, literal=True, add=True)
        pieces = self.pieces(ids)
        if not chat:
            text = "".join(piece.text for piece in pieces[: self._opening(pieces)]) + text
        stop = stop_text(prompt) if stop_texts and not chat else None
        found = tuple(self._findings(prompt, text, pieces))
        return EncodedPrompt(text, pieces, (stop,) if stop else (), found, self.vocabulary)

    def continuation(self, sent: EncodedPrompt, answer: str) -> list[int]:
        """Return the ids of an answer as what follows a prompt that was sent.

        Raises:
            PromptError: the answer is empty.
        """
        if not answer.strip():
            raise PromptError("A label is empty; it must have a character at least.")
        return self._ids(continued(sent.text, answer), literal=True)

    def continuations(self, sent: EncodedPrompt, answers: Sequence[str]) -> list[list[int]]:
        """Return the ids of answers that are ranked against each other.

        Where one begins like another whole one, all are ranked with their ends: else the shorter
        could never be less likely than the longer.
        """
        ids = [self.continuation(sent, answer) for answer in answers]
        begins = any(a is not b and b[: len(a)] == a for a in ids for b in ids)
        return [[*one, self.tokenizer.eos_token_id] for one in ids] if begins else ids

    def completion(self, sent: EncodedPrompt, answer: str) -> tuple[TokenPiece, ...]:
        """Return an answer's tokens, the end-of-text token included, as a training row has them."""
        ids = [*self.continuation(sent, answer), self.tokenizer.eos_token_id]
        return self.pieces(ids)

    def tokens(self, text: str, opening: bool = False) -> tuple[TokenPiece, ...]:
        """Return a plain text's tokens, as the middle of a text or with what opens one.

        Raises:
            PromptError: it holds something that is no text.
        """
        check_characters(text)
        return self.pieces(self._ids(text, literal=True, add=opening))

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return tokens by their ids.

        Raises:
            PromptError: there is no such id.
        """
        if unknown := [id for id in ids if not 0 <= id < self._size]:
            last = self._size - 1
            raise PromptError(f"There is no token {unknown[0]}; ids go from 0 to {last}.")
        return tuple(map(self._piece, ids))

    def after(self, expected: TokenIdDistribution) -> TokenDistribution:
        """Return what is expected after a token, with its tokens' texts."""
        each = zip(expected.ids, expected.p, expected.sampled, strict=True)
        likely = tuple(TopToken(id, self._piece(id).text, p, sampled) for id, p, sampled in each)
        return TokenDistribution(likely, expected.loss, expected.rank)

    @cached_property
    def vocabulary(self) -> str:
        """A hash over all tokens in the order of their ids."""
        tokens = self.tokenizer.convert_ids_to_tokens(range(self._size))
        return sha256("\0".join(map(str, tokens)).encode()).hexdigest()[:12]

    def _chat(self, prompt: Prompt) -> tuple[str, list[int]]:
        message = to_message(prompt)
        rendered = self._render(message)
        # Special tokens that the template wrote are parsed, those that the user typed are not.
        # The tokenizer itself cuts at them, so cutting there changes nothing else.
        typed = self._typed(message, rendered)
        ids, at = [], 0
        for match in self._special.finditer(rendered):
            if any(start <= match.start() < end for start, end in typed):
                ids += self._ids(rendered[at : match.start()])
                ids += self._ids(match.group(), literal=True)
                at = match.end()
        return rendered, ids + self._ids(rendered[at:])

    def _render(self, message: Message) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [message.as_dict()],
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
        )
        return text

    def _typed(self, message: Message, rendered: str) -> list[tuple[int, int]]:
        """Return where the user's texts stand in the rendered prompt.

        Two signs for private use are rendered in their places, and tell the places.

        Raises:
            PromptError: the template changes the texts, and there is a control token in them.
        """
        texts = {"\ue000": message.instruction, "\ue001": message.input}
        marked = self._render(Message("\ue000", "\ue001" if message.input else ""))
        parts = re.split("([\ue000\ue001])", marked)
        for trims in _TRIMS:
            trimmed = {mark: trims[mark](text) for mark, text in texts.items()}
            spans, text = [], ""
            for part in parts:
                if part in trimmed:
                    spans.append((len(text), len(text) + len(trimmed[part])))
                text += trimmed.get(part, part)
            if text == rendered:
                return spans
        if found := self._special.search(message.content):
            raise PromptError(
                f"{found.group()} is a control token of {self.variant.name}, whose chat template "
                "changes the text that it stands in: it cannot be sent as text. Take it out."
            )
        return []

    def _ids(self, text: str, literal: bool = False, add: bool = False) -> list[int]:
        if not text and not add:
            return []
        with _ENCODING:
            encoded = self.tokenizer(text, add_special_tokens=add, split_special_tokens=literal)
        return list(encoded["input_ids"])

    def _piece(self, id: int) -> TokenPiece:
        if id not in self._pieces:
            text: str = self.tokenizer.decode([id], clean_up_tokenization_spaces=False)
            token: str = self.tokenizer.convert_ids_to_tokens(id)
            special = id in self._special_ids
            data = b"" if special else _data(text, token)
            self._pieces[id] = TokenPiece(id, token if "\ufffd" in text else text, special, data)
        return self._pieces[id]

    def _opening(self, pieces: tuple[TokenPiece, ...]) -> int:
        """Count the special tokens that the tokenizer put first."""
        return next((n for n, piece in enumerate(pieces) if not piece.special), len(pieces))

    def _findings(
        self, prompt: Prompt, text: str, pieces: tuple[TokenPiece, ...]
    ) -> Iterator[Finding]:
        """Yield what is odd about the tokens that are sent."""
        bos, name = self.tokenizer.bos_token_id, self.tokenizer.bos_token
        count = sum(piece.id == bos for piece in pieces) if bos is not None else 0
        if count > 1:
            yield Finding(
                "error",
                f"{name} stands {count} times.",
                "Take it out of the text: the tokenizer or the template puts it there.",
            )
        if not count and bos in self._ids("", add=True):
            yield Finding(
                "error",
                f"{name} is missing, which this model's texts begin with.",
                "Begin the chat template with {{ bos_token }}.",
            )
        for shot in {shot.output: shot for shot in prompt.demonstrations}.values():
            own = self._ids(continued(text, shot.output), literal=True)
            if own != self._ids(text + continued(text, shot.output))[-len(own) :]:
                yield Finding(
                    "error",
                    f"The answer {shot.output!r} is cut into other tokens after this prompt than "
                    "by itself.",
                    "Begin the answer with a letter or a digit, not with a blank.",
                )


_TRIMS: tuple[dict[str, Callable[[str], str]], ...] = (
    {"\ue000": str, "\ue001": str},
    {"\ue000": str.strip, "\ue001": str.strip},
    {"\ue000": str.lstrip, "\ue001": str.rstrip},
)
"""What templates do to the two texts: nothing, trim each, or trim both as one text."""


def _data(text: str, token: str) -> bytes:
    """Return the bytes of a token; a part of a character is written in one of two ways."""
    if "\ufffd" not in text:
        return text.encode()
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", token):
        return bytes.fromhex(byte[1])
    return bytes(_BYTES.get(char, ord("?")) for char in token)


def _byte_level() -> dict[str, int]:
    """Return the byte that each sign of a byte-level vocabulary stands for (GPT-2's table)."""
    printed = [*range(ord("!"), 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_level()


def _control_tokens(tokenizer: Any) -> list[str]:
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special]
