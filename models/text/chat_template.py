"""Renders a model's chat template, which is a program that somebody else wrote.

A template may refuse a prompt, drop the user's words, or leave the model's turn unopened; nothing
of that passes without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from models.errors import PromptError, TrioError, first_line
from models.text.render import Message
from models.types import Finding

_PRIVATE_USE = range(0xE000, 0xF900)
_TRIMS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (str, str),
    (str.strip, str.strip),
    (str.lstrip, str.rstrip),
)
"""How templates trim instruction and input: not at all, each, or both joined."""


class _Marks(NamedTuple):
    """Characters that stand for texts, to find where a template puts them."""

    instruction: str
    input: str
    answer: str


def _marks(text: str = "") -> _Marks:
    """Return private-use characters that a text does not have."""
    unused = (chr(code) for code in _PRIVATE_USE if chr(code) not in text)
    return _Marks(*islice(unused, 3))


class ChatTemplate:
    """The chat template of one variant."""

    def __init__(self, name: str, tokenizer: Any, template: str) -> None:
        """Check a template, and find out in which form it reads a message's content.

        Args:
            name: the variant's name, for errors.
            tokenizer: a tokenizer of transformers, which renders templates.
            template: the template.

        Raises:
            TrioError: it is not valid Jinja.
        """
        self._name = name
        self._tokenizer = tokenizer
        self._template = template
        self._reads_parts = False
        try:
            mark = Message(_marks().instruction)
            self._reads_parts = not self._shows(mark) and self._shows(mark, as_parts=True)
        except TemplateSyntaxError as error:
            raise TrioError(
                f"The chat template of {name} is not valid Jinja: line {error.lineno}: "
                f"{first_line(error)}"
            ) from error

    def render(self, message: Message) -> str:
        """Render a user's message, and the beginning of the model's turn.

        Raises:
            PromptError: the template refuses the message, or fails.
        """
        try:
            return self._rendered([_as_dict(message, self._reads_parts)])
        except Exception as error:  # a program of somebody else, which may raise anything
            raise PromptError(
                f"The chat template of {self._name} does not render this prompt: "
                f"{first_line(error)}"
            ) from error

    def scaffold(self, message: Message) -> str:
        """Render private-use characters instead of the user's texts: the rest is the template's."""
        marks = _marks(message.content)
        return self.render(Message(marks.instruction, marks.input if message.input else ""))

    def typed_spans(self, message: Message, rendered: str) -> list[tuple[int, int]] | None:
        """Return the spans of the user's texts in the rendered prompt.

        They are found by rendering private-use characters instead of the texts.

        Returns:
            None if the template changes the texts, so that the spans cannot be told.
        """
        marks = _marks(message.content)[:2]
        parts = re.split(f"([{''.join(marks)}])", self.scaffold(message))
        for trims in _TRIMS:
            texts = zip(marks, trims, (message.instruction, message.input), strict=True)
            trimmed = {mark: trim(text) for mark, trim, text in texts}
            spans, text = [], ""
            for part in parts:
                if part in trimmed:
                    spans.append((len(text), len(text) + len(trimmed[part])))
                text += trimmed.get(part, part)
            if text == rendered:
                return spans
        return None

    def findings(self, message: Message, rendered: str) -> Iterator[Finding]:
        """Yield what is wrong with a rendered prompt."""
        if lost := self._lost(message, rendered):
            yield Finding(
                "error",
                f"The chat template drops words of the prompt: {' '.join(lost)[:60]!r} is not in "
                "what is sent.",
                "Give the variant a template that shows messages[…].content.",
            )
        yield from self._opening(message, rendered)

    def _lost(self, message: Message, rendered: str) -> list[str]:
        """Return the words of a message that are rendered less often than they stand in it.

        The template's own words are taken from a rendering without the message's.
        """
        scaffold = self.scaffold(message).casefold()
        sent, words = rendered.casefold(), message.content.casefold().split()
        text = " ".join(words)
        return [
            word
            for word in dict.fromkeys(words)
            if sent.count(word) - scaffold.count(word) < text.count(word)
        ]

    def adds_beginning(self, message: Message, rendered: str) -> bool:
        """Whether the template writes the beginning of an answer where it is asked to."""
        user = _as_dict(message, self._reads_parts)
        try:
            return self._rendered([user], generation_prompt=False) != rendered
        except Exception:  # it may render nothing else than the beginning of an answer
            return False

    def _opening(self, message: Message, rendered: str) -> Iterator[Finding]:
        """Yield whether an answer would not follow directly, or that it cannot be told."""
        if self.adds_beginning(message, rendered):
            return
        try:
            whole = self._answered(message)
        except PromptError as error:
            yield Finding(
                "warning",
                f"Whether the chat template opens the model's turn could not be checked: {error}",
                "Compare the end of what is sent with the rows that the model was trained on.",
            )
            return
        mark = _marks(message.content).answer
        if not whole.startswith(rendered) or mark not in whole[len(rendered) :]:
            return  # a template that shows no answers, or changes the prompt before one
        if whole[len(rendered) : whole.index(mark)].strip():
            yield Finding(
                "error",
                "The chat template does not open the model's turn after the prompt: the model may "
                "go on with the user's.",
                "End the template with {% if add_generation_prompt %}, the words before an "
                "answer, {% endif %}.",
            )

    def _answered(self, message: Message) -> str:
        """Render a prompt with an answer after it, in a form that the template takes.

        Raises:
            PromptError: it takes none.
        """
        user, refusal = _as_dict(message, self._reads_parts), ""
        forms = (self._reads_parts, not self._reads_parts)
        for as_parts, generation_prompt in product(forms, (False, True)):
            mark = Message(_marks(message.content).answer)
            answer = _as_dict(mark, as_parts) | {"role": "assistant"}
            try:
                return self._rendered([user, answer], generation_prompt)
            except Exception as error:  # a program of somebody else, which may raise anything
                refusal = refusal or first_line(error)
        raise PromptError(f"it refuses an answer after the prompt: {refusal}")

    def _shows(self, message: Message, as_parts: bool = False) -> bool:
        """Whether a message's content is in its rendering.

        Raises:
            TemplateSyntaxError: the template is not valid Jinja.
        """
        try:
            return message.content in self._rendered([_as_dict(message, as_parts)])
        except TemplateSyntaxError:
            raise
        except Exception:  # it may refuse this message, and take others
            return False

    def _rendered(self, messages: list[dict[str, Any]], generation_prompt: bool = True) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )
        return text


def _as_dict(message: Message, as_parts: bool) -> dict[str, Any]:
    """Return a message as templates take it; its content as a list of parts if they read those."""
    fields: dict[str, Any] = message.as_dict()
    if as_parts:
        fields["content"] = [{"type": "text", "text": message.content}]
    return fields
