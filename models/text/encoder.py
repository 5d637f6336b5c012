"""The encoder of a variant: renders and tokenizes prompts.

The tokenizer adds its special tokens to plain text; a rendered chat template has its own, so none
are added. Text that a person typed is tokenized as text, even where it spells a special token.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from models.engine.interface import TokenIdDistribution
from models.errors import PromptError, TrioError
from models.logprobs import TokenDistribution, TopToken
from models.text.chat_template import ChatTemplate
from models.text.render import check_characters, continued, stop_text, to_message, to_text
from models.types import EncodedPrompt, Finding, Format, Prompt, TokenPiece, Variant

_LOCK = threading.Lock()
"""Held while tokenizing, since `split_special_tokens` is state of the tokenizer, not of a call."""
_NO_SOURCES: Mapping[str, str] = MappingProxyType({})


class Encoder:
    """Renders and tokenizes prompts for one variant."""

    def __init__(
        self,
        variant: Variant,
        tokenizer: Any,
        template: str | None,
        eos_ids: Collection[int] = (),
        sources: Mapping[str, str] = _NO_SOURCES,
    ) -> None:
        """Prepare encoding for a variant.

        Args:
            variant: determines whether prompts are rendered as text or by the chat template.
            tokenizer: a fast tokenizer of transformers.
            template: the chat template; None if there is none.
            eos_ids: ids of the tokens that end a text.
            sources: the file that each of these came from, by what it is.

        Raises:
            TrioError: the variant reads chat and there is no template, or it is no valid one.
        """
        if variant.reads == "chat" and not template:
            raise TrioError(
                f"{variant.name} reads chat, but neither its adapter nor its base has a chat "
                "template. Put chat_template.jinja beside the adapter, or say reads = 'text'."
            )
        self.variant = variant
        self.tokenizer = tokenizer
        self.eos_ids = frozenset(eos_ids)
        self._sources = sources
        chat = template if variant.reads == "chat" else None
        self._chat = ChatTemplate(variant.name, tokenizer, chat) if chat else None
        self._size = len(tokenizer)
        """Size of the vocabulary; kept, since `len` of a tokenizer counts all tokens each time."""
        self._pieces: dict[int, TokenPiece] = {}
        """Cache of decoded tokens, by id."""
        specials = sorted(tokenizer.all_special_tokens + _control_tokens(tokenizer), key=len)
        self._special = re.compile("|".join(map(re.escape, reversed(specials))))
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(specials))

    def encode(self, prompt: Prompt, format: Format, stop_texts: bool = True) -> EncodedPrompt:
        """Render and tokenize a prompt for the variant.

        Args:
            prompt: the prompt.
            format: in the variant's own format, or the same bytes to all.
            stop_texts: whether a text variant's answer ends where it starts a new demonstration.

        Raises:
            PromptError: the prompt contains a lone surrogate, or a control token in text that the
                chat template changes.
        """
        plain = to_text(prompt)
        check_characters(plain)
        chat = self._chat if format == "own" else None
        if chat:
            text, ids = self._encode_chat(chat, prompt)
        else:
            text = plain + (self.variant.ends_with if format == "own" else "")
            ids = self._ids(text, literal=True, add=True)
        pieces = self.pieces(ids)
        if not chat:
            text = "".join(piece.text for piece in pieces[: self._opening(pieces)]) + text
        stop = stop_text(prompt) if stop_texts and not chat else None
        findings = tuple(self._findings(prompt, text, pieces, chat))
        stops = (stop,) if stop else ()
        return EncodedPrompt(text, pieces, stops, findings, self.vocabulary, self._sources)

    def following(self, sent: EncodedPrompt, text: str) -> tuple[TokenPiece, ...]:
        """Tokenize plain text as it stands after an encoded prompt.

        Raises:
            PromptError: the text contains a lone surrogate.
        """
        check_characters(text)
        (ids,) = self._following(sent, [text])
        return self.pieces(ids)

    def continuation(self, sent: EncodedPrompt, answer: str) -> list[int]:
        """Return the token ids of an answer that follows an encoded prompt.

        Raises:
            PromptError: the answer is empty.
        """
        (ids,) = self._answers(sent, [answer])
        return ids

    def continuations(self, sent: EncodedPrompt, answers: Sequence[str]) -> list[list[int]]:
        """Return the token ids of answers whose likelihoods are compared.

        If one answer's tokens are a prefix of another's, the end-of-text token is added to all:
        otherwise the shorter could never be less likely than the longer.

        Raises:
            PromptError: an answer is empty.
        """
        ids = self._answers(sent, answers)
        prefixed = any(a is not b and b[: len(a)] == a for a in ids for b in ids)
        return [[*answer, *self._end] for answer in ids] if prefixed else ids

    def completion(self, prompt: EncodedPrompt, answer: str) -> tuple[TokenPiece, ...]:
        """Tokenize an answer after a prompt as in a training row, with the end-of-text token.

        Raises:
            PromptError: the answer is empty.
        """
        return self.pieces([*self.continuation(prompt, answer), *self._end])

    def tokens(self, text: str, opening: bool = False) -> tuple[TokenPiece, ...]:
        """Tokenize plain text; `opening` prepends the special tokens that start a text (BOS).

        Raises:
            PromptError: the text contains a lone surrogate.
        """
        check_characters(text)
        return self.pieces(self._ids(text, literal=True, add=opening))

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return the tokens with the given ids.

        Raises:
            PromptError: there is no such id.
        """
        if unknown := [id for id in ids if not 0 <= id < self._size]:
            last = self._size - 1
            raise PromptError(f"There is no token {unknown[0]}; ids go from 0 to {last}.")
        return tuple(map(self._piece, ids))

    def distribution(self, ids: TokenIdDistribution) -> TokenDistribution:
        """Add the tokens' texts to a next-token distribution."""
        columns = zip(ids.ids, ids.p, ids.sampled, strict=True)
        top = tuple(TopToken(id, self._piece(id).text, p, sampled) for id, p, sampled in columns)
        return TokenDistribution(top, ids.loss, ids.rank)

    @cached_property
    def vocabulary(self) -> str:
        """Hash of all tokens in the order of their ids."""
        tokens = self.tokenizer.convert_ids_to_tokens(range(self._size))
        return sha256("\0".join(map(str, tokens)).encode()).hexdigest()[:12]

    @property
    def _end(self) -> list[int]:
        """The end-of-text token, as training rows end; empty if the tokenizer has none."""
        id = self.tokenizer.eos_token_id
        return [] if id is None else [id]

    def _answers(self, sent: EncodedPrompt, answers: Sequence[str]) -> list[list[int]]:
        if not all(answer.strip() for answer in answers):
            raise PromptError("A label is empty; it must have a character at least.")
        return self._following(sent, [continued(sent.text, answer) for answer in answers])

    def _following(self, sent: EncodedPrompt, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that each text has after a prompt, as both are tokenized together.

        Some tokenizers put a space before every text, and then a word alone has other tokens than
        after a prompt. Where a text would change the prompt's own last token, it is tokenized by
        itself.
        """
        last = sent.pieces[-1] if sent.pieces else None
        # Tokenizers split after a special token; one for unknown text is not in the text.
        parsed = last if last and last.special and sent.text.endswith(last.text) else None
        before = parsed.text if parsed else sent.text
        own = [parsed.id] if parsed else self._ids(before, literal=True)
        following = []
        for text in texts:
            both = self._ids(before + text, literal=not parsed)
            ids = both[len(own) :]
            is_text = not parsed or self._special_ids.isdisjoint(ids)
            together = is_text and both[: len(own)] == own
            following.append(ids if together else self._ids(text, literal=True))
        return following

    def _encode_chat(self, chat: ChatTemplate, prompt: Prompt) -> tuple[str, list[int]]:
        message = to_message(prompt)
        rendered = chat.render(message)
        # Special tokens that the template wrote are parsed; those that the user typed are not.
        # The tokenizer itself splits at special tokens, so splitting there changes nothing else.
        typed = chat.typed_spans(message, rendered)
        if typed is None and (match := self._special.search(message.content)):
            raise PromptError(
                f"{match.group()} is a control token of {self.variant.name}, whose chat template "
                "changes the text that it stands in: it cannot be sent as text. Take it out."
            )
        ids, at = [], 0
        for match in self._special.finditer(rendered):
            if any(start <= match.start() < end for start, end in typed or ()):
                ids += self._ids(rendered[at : match.start()])
                ids += self._ids(match.group(), literal=True)
                at = match.end()
        return rendered, ids + self._ids(rendered[at:])

    def _ids(self, text: str, literal: bool = False, add: bool = False) -> list[int]:
        if not text and not add:
            return []
        with _LOCK:
            encoded = self.tokenizer(text, add_special_tokens=add, split_special_tokens=literal)
        return list(encoded["input_ids"])

    def _piece(self, id: int) -> TokenPiece:
        if id not in self._pieces:
            special = id in self._special_ids
            text = self._decoded([id]) if special else self._text_inside(id)
            token: str = self.tokenizer.convert_ids_to_tokens(id)
            data = b"" if special else _data(text, token)
            self._pieces[id] = TokenPiece(id, token if "\ufffd" in text else text, special, data)
        return self._pieces[id]

    def _text_inside(self, id: int) -> str:
        """Return a token's text inside of a text; decoders strip the space that begins one."""
        before = self._decoded(self._inner)
        text = self._decoded([*self._inner, id])
        return text[len(before) :] if text.startswith(before) else self._decoded([id])

    @cached_property
    def _inner(self) -> list[int]:
        """A token of plain text, after which others are decoded."""
        return self._ids("a", literal=True)[-1:]

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _opening(self, pieces: tuple[TokenPiece, ...]) -> int:
        """Return the number of special tokens at the beginning."""
        return next((n for n, piece in enumerate(pieces) if not piece.special), len(pieces))

    def _findings(
        self,
        prompt: Prompt,
        text: str,
        pieces: tuple[TokenPiece, ...],
        chat: ChatTemplate | None,
    ) -> Iterator[Finding]:
        """Yield faults of a prompt's text and tokens, with their cures."""
        if chat:
            yield from chat.findings(to_message(prompt), text)
        filled = [piece for piece in pieces if piece.special or piece.text.strip()]
        begun = chat and chat.adds_beginning(to_message(prompt), text)
        if filled and filled[-1].id in self.eos_ids and not begun:
            yield Finding(
                "error",
                f"The prompt ends with {filled[-1].text}, which ends a text: what follows it is "
                "another text.",
                "Set add_eos_token to false in tokenizer_config.json, or take the token out of the "
                "chat template.",
            )
        bos, name = self.tokenizer.bos_token_id, self.tokenizer.bos_token
        count = sum(piece.id == bos for piece in pieces) if bos is not None else 0
        # Some models begin every turn with it: a template's own are as many as it wrote, apart.
        written = text.count(name) if chat and name else 1
        if count > max(1, written) or (count > 1 and pieces[1].id == bos):
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
        outputs = dict.fromkeys(shot.output for shot in prompt.demonstrations)
        own = self._ids(text, literal=True) if outputs else []
        for output in outputs:
            if self._ids(text + continued(text, output), literal=True)[: len(own)] != own:
                yield Finding(
                    "error",
                    f"The answer {output!r} changes the last token of this prompt.",
                    "Begin the answer with a letter or a digit, not with a blank.",
                )


def _data(text: str, token: str) -> bytes:
    """Return a token's bytes; part of a character is `<0x…>` or byte-level in the vocabulary."""
    if "\ufffd" not in text:
        return text.encode()
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", token):
        return bytes.fromhex(byte[1])
    return bytes(_BYTES.get(char, ord("?")) for char in token)


def _byte_level() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printed = [*range(ord("!"), 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_level()


def _control_tokens(tokenizer: Any) -> list[str]:
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special]
