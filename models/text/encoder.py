"""The encoder of a variant: renders and tokenizes prompts.

The tokenizer adds its special tokens to plain text; a rendered chat template has its own, so none
are added. Text that a person typed is tokenized as text, even where it spells a special token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from models.engine.interface import TokenIdDistribution
from models.errors import PromptError, TrioError
from models.logprobs import TokenDistribution, TopToken
from models.text.chat_template import ChatTemplate
from models.text.findings import find_faults
from models.text.render import check_characters, continued, stop_text, to_message, to_text
from models.text.token_pieces import TokenPieces
from models.text.tokenization import Tokenization
from models.types import EncodedPrompt, Format, Prompt, TokenPiece, Variant

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
        self.tokenization = Tokenization(tokenizer)
        self._tokens = TokenPieces(self.tokenization)

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
            ids = self.tokenization.ids(text, literal=True, add=True)
        pieces = self.pieces(ids)
        if not chat:
            text = "".join(piece.text for piece in pieces[: _opening(pieces)]) + text
        stop = stop_text(prompt) if stop_texts and not chat else None
        faults = find_faults(prompt, text, pieces, chat, self.tokenization, self.eos_ids)
        stops = (stop,) if stop else ()
        return EncodedPrompt(text, pieces, stops, tuple(faults), self.vocabulary, self._sources)

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
        return self.pieces(self.tokenization.ids(text, literal=True, add=opening))

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return the tokens with the given ids.

        Raises:
            PromptError: there is no such id.
        """
        return self._tokens.of(ids)

    def distribution(self, ids: TokenIdDistribution) -> TokenDistribution:
        """Add the tokens' texts to a next-token distribution."""
        columns = zip(ids.ids, ids.p, ids.sampled, strict=True)
        top = tuple(
            TopToken(id, self._tokens.piece(id).text, p, sampled) for id, p, sampled in columns
        )
        return TokenDistribution(top, ids.loss, ids.rank)

    @property
    def vocabulary(self) -> str:
        """Hash of all tokens in the order of their ids."""
        return self._tokens.vocabulary

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
        last = sent.pieces[-1] if sent.pieces else None
        return self.tokenization.following(sent.text, last, texts)

    def _encode_chat(self, chat: ChatTemplate, prompt: Prompt) -> tuple[str, list[int]]:
        message = to_message(prompt)
        rendered = chat.render(message)
        typed = chat.typed_spans(message, rendered)
        if typed is None:
            self._refuse_control_tokens(message.content, rendered, chat.scaffold(message))
        return rendered, self.tokenization.chat_ids(rendered, typed or ())

    def _refuse_control_tokens(self, content: str, rendered: str, scaffold: str) -> None:
        """Refuse control tokens of a prompt, where they cannot be told from the template's own."""
        controls = self.tokenization.control_tokens.among
        made = Counter(controls(rendered)) - Counter(controls(scaffold))
        if tokens := controls(content) or list(made):
            raise PromptError(
                f"{tokens[0]} is a control token of {self.variant.name}, whose chat template "
                "changes the text that it stands in: it cannot be sent as text. Take it out."
            )


def _opening(pieces: tuple[TokenPiece, ...]) -> int:
    """Return the number of special tokens at the beginning."""
    return next((n for n, piece in enumerate(pieces) if not piece.special), len(pieces))
