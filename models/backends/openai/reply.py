"""Reads the events of a reply of OpenAI's API: text, reasoning, and why the answer ended.

Takes the shapes in which servers send them; what it cannot read is an error or a note, never an
empty answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.backends.openai.errors import (
    ReplyError,
    as_text,
    error_words,
    malformed,
    one_line,
    parse_json,
    sentence,
)
from models.backends.openai.reply_text import Characters, pieces_of
from models.backends.openai.server_sent_events import NO_EVENT, ServerEvent
from models.backends.openai.tool_calls import ToolCalls
from models.events import Reasoning, Token
from models.types import UNKNOWN_ID, Role, StopReason

_FINISH_REASONS: Mapping[str, StopReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn"), "eos"),
    **dict.fromkeys(("length", "max_tokens", "model_length"), "length"),
    **dict.fromkeys(("content_filter", "safety"), "content_filter"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    "refusal": "refusal",
}
"""Reasons by the words of servers, in lower case: OpenAI, TGI, Mistral, Anthropic, Gemini."""
_DELTA_KEYS = ("content", "refusal", "tool_calls", "function_call")
"""Keys of a delta that brings an answer; a role or reasoning alone may come before a message."""
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """What an event adds to an answer."""

    text: str = ""
    reasoning: str = ""

    def events(self, role: Role, shown: str, at_s: float) -> Iterator[Reasoning | Token]:
        """Yield its events, `at_s` seconds after the beginning; `shown` is its text so far."""
        if self.reasoning:
            yield Reasoning(role, self.reasoning, at_s)
        if self.text:
            yield Token(role, UNKNOWN_ID, shown, math.nan, at_s)


@dataclass(frozen=True, slots=True)
class ReplyEnd:
    """The end of an answer."""

    reason: StopReason
    text: str = ""
    """Half a character that was never completed, as U+FFFD."""
    notes: tuple[str, ...] = ()
    """What is to be known of the answer, a sentence each."""


class ReplyReader:
    """Reads one reply, event by event, and keeps what its end depends on."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.finish_reason = ""
        """Why the answer ended, in the server's word; empty until it says so."""
        self.done = False
        """Whether the server said that it has sent everything."""
        self._text = Characters()
        self._reasoning = Characters()
        self._calls = ToolCalls()
        self._has_deltas = False
        self._is_whole = False
        self._is_answer = False
        self._refused = False
        self._unread = ""
        self._notes: dict[str, None] = {}

    def read(self, event: ServerEvent) -> ReplyPart:
        """Read one event.

        Raises:
            ReplyError: the event reports an error, or is no part of an answer.
        """
        if not event.is_utf8:
            self._note("Its server sent bytes that are not UTF-8; each is shown as “�”.")
        if not event.data.strip() or event.name in ("ping", "heartbeat"):
            return ReplyPart()
        reply = self._parsed(event)
        choices = reply.get("choices")
        if not isinstance(choices, list | None):
            raise malformed(reply)
        first = self._first(choices or [])
        self._is_answer |= bool(first)
        self._unread = self._unread or event.data
        self.done |= event.name == NO_EVENT and bool(choices)
        pieces = [piece for choice in first for piece in self._choice(choice)]
        text = "".join(piece for kind, piece in pieces if kind != "reasoning")
        reasoning = "".join(piece for kind, piece in pieces if kind == "reasoning")
        is_whole = self._is_whole
        return ReplyPart(self._text.add(text, is_whole), self._reasoning.add(reasoning, is_whole))

    def end(self) -> ReplyEnd:
        """Return why the answer ended.

        Raises:
            ReplyError: the reply ended before the answer did, or had none.
        """
        said = bool(self._text.sent or self._reasoning.sent or self._calls)
        if not self.finish_reason and not (self.done and said):
            if self._unread and not self._is_answer:
                sent = one_line(self._unread)
                raise ReplyError(f"sent no answer in the form of OpenAI's API; it sent: {sent}")
            raise ReplyError("ended its answer without saying why. Its log may tell.")
        reason = _FINISH_REASONS.get(self.finish_reason.lower(), "unknown")
        if reason == "eos" and (self._refused or self._calls):
            reason = "refusal" if self._refused else "tool_calls"
        if reason == "unknown":
            word = f"the finish reason “{one_line(self.finish_reason)}”"
            self._note(f"Its server gave {word if self.finish_reason else 'no finish reason'}.")
        if calls := one_line(str(self._calls)):
            self._note(sentence(f"Its server called a tool: {calls}"))
        self._note_blank(reason)
        return ReplyEnd(reason, self._text.rest(), tuple(self._notes))

    def _parsed(self, event: ServerEvent) -> Mapping[str, Any]:
        """Parse the data of an event, and raise the error that it reports."""
        try:
            reply = parse_json(event.data)
        except ReplyError:
            if event.name == "error":
                raise ReplyError(f"reports an error: {one_line(event.data)}") from None
            is_json = event.name != NO_EVENT and event.data.lstrip().startswith("{")
            if self.finish_reason and not is_json:  # the answer had come before it
                return {}
            raise
        if words := error_words(reply) or (event.name == "error" and event.data):
            raise ReplyError(f"reports an error: {one_line(words)}")
        if not isinstance(reply, Mapping):
            if self.finish_reason:
                return {}
            raise malformed(reply)
        return reply

    def _first(self, choices: list[object]) -> list[Mapping[str, Any]]:
        """Return what belongs to the first answer, and note that there are others."""
        first = []
        for n, choice in enumerate(choices):
            if not isinstance(choice, Mapping):
                raise malformed(choice)
            if is_first(choice, n):
                first.append(choice)
            else:
                self._note("Its server sent more than one answer; the first is shown.")
        return first

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the pieces of one choice, each with its kind: text, reasoning or refusal."""
        if words := error_words({"error": choice.get("error")}):
            raise ReplyError(f"reports an error: {one_line(words)}")
        message = self._message(choice)
        reasoning = next(filter(None, map(message.get, _REASONING_KEYS)), None)
        thoughts = (
            ("reasoning" if kind == "text" else kind, x) for kind, x in pieces_of(reasoning)
        )
        for kind, text in (*thoughts, *pieces_of(choice.get("text") or message.get("content"))):
            if kind in ("text", "reasoning", "refusal"):
                self._refused |= kind == "refusal"
                yield kind, text
            else:
                self._note(f"Its server sent {one_line(kind)}, which is not shown.")
        yield from self._beside_content(message)
        ended = as_text(choice.get("finish_reason") or "")
        self.finish_reason = self.finish_reason or ended
        if ended.lower() == "error":
            raise ReplyError(f"reports an error: {one_line(as_text(choice))}")

    def _message(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a choice adds, or a whole message where no delta brought an answer."""
        delta, message = (choice.get(key) or {} for key in ("delta", "message"))
        if not (isinstance(delta, Mapping) and isinstance(message, Mapping)):
            raise malformed(choice)
        self._has_deltas |= any(map(delta.get, _DELTA_KEYS))
        self._is_whole = bool(message) and not self._has_deltas
        return {**delta, **message} if self._is_whole else delta

    def _beside_content(self, message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield a refusal; keep the calls of tools, and note what is not shown."""
        for _, text in pieces_of(message.get("refusal")):
            self._refused |= bool(text)
            yield "refusal", text
        for key in ("tool_calls", "function_call"):
            if calls := message.get(key):
                self._calls.add(calls if key == "tool_calls" else {"function": calls})
        for kind in ("audio", "images"):
            if message.get(kind):
                self._note(f"Its server sent {kind}, which is not shown.")

    def _note(self, text: str) -> None:
        self._notes[text] = None

    def _note_blank(self, reason: StopReason) -> None:
        """Say why an answer has no text, if that is known."""
        blank = not self._text.sent
        if blank and self._reasoning.sent:
            self._note("Its server sent reasoning alone, and no answer.")
        if blank and reason == "length":
            self._note("The limit of new tokens came before the answer; a higher one may do.")


def is_first(choice: object, n: int = 0) -> bool:
    """Whether a choice is of the first answer; its position `n` counts if it has no index."""
    index = choice.get("index") if isinstance(choice, Mapping) else "none"
    return n == 0 if index is None else index in (0, "0")
