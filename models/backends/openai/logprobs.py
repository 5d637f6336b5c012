"""Reads token scores from the log-probabilities that a server returns, if it returns any.

Servers differ. Some echo a prompt with each token's log-probability (vLLM, llama-cpp-python; the
older form of OpenAI's API); some return only those of the next token (llama.cpp, chat routes; the
newer form); some return none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.backends.openai.errors import ReplyError, as_text, one_line
from models.backends.openai.reply import is_first
from models.logprobs import TokenDistribution, TokenScores, TopToken
from models.types import UNKNOWN_ID, Role, TokenPiece

PROTOCOL_TOP = 5
"""Largest number of top tokens that OpenAI's own API allows; some servers return more."""


def logprob_requests(
    model: str, text: str, continuation: str, chat: bool, top: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return requests to try for log-probabilities, as (route, body), the most informative first.

    Args:
        model: name of the model on the server.
        text: the prompt.
        continuation: an answer that follows it, which chat routes do not accept.
        chat: whether the prompt is a message to the chat route.
        top: number of most likely tokens to request.
    """
    common: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0.0}
    counts = sorted({max(1, top), min(PROTOCOL_TOP, max(1, top))}, reverse=True)
    if chat:
        message = {"messages": [{"role": "user", "content": text}], "logprobs": True}
        bodies = [{**common, **message, "top_logprobs": count} for count in counts]
        return [] if continuation else [("chat/completions", body) for body in bodies]
    bodies = [
        {**common, "prompt": text + continuation, "logprobs": count, "echo": True}
        for count in counts
    ]
    if not continuation:
        bodies += [{**common, "prompt": text, "logprobs": count} for count in counts]
    return [("completions", body) for body in bodies]


def read_reply(role: Role, reply: object, text: str, continuation: str) -> TokenScores | None:
    """Read the scores from a reply; return None if it has no usable ones.

    Raises:
        ReplyError: the reply is malformed.
    """
    try:
        choices = reply["choices"]  # type: ignore[index]
        logprobs = next(choice for choice in choices if is_first(choice)).get("logprobs")
        if not logprobs:
            return None
        if "tokens" not in logprobs:
            content = logprobs["content"]
            if continuation or not content:
                return None
            return _next_token(role, content[0]["top_logprobs"], text)
        if len(logprobs["tokens"]) > 1:
            return _echoed(role, logprobs, text, continuation)
        if continuation:
            return None
        return _next_token(role, (logprobs.get("top_logprobs") or [None])[0], text)
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        sent = one_line(as_text(reply))
        raise ReplyError(f"sent log-probabilities that cannot be read: {sent}") from error


def _echoed(
    role: Role, logprobs: Mapping[str, Any], text: str, continuation: str
) -> TokenScores | None:
    """Read the older form: lists over the prompt's tokens and the generated token.

    Returns None if the tokens do not join to the text: some servers return a name, not the bytes,
    of a token that is part of a character.
    """
    tokens, tops = logprobs["tokens"], logprobs.get("top_logprobs") or []
    begin = _begin(tokens, text + continuation)
    if begin is None:
        return None
    end = _end(tokens, begin, len(text + continuation))
    losses = [None if value is None else -_logprob(value) for value in logprobs["token_logprobs"]]
    following = [*losses[1:end], None]
    distributions = [*tops[1 : end + 1], *[None] * end][:end]
    return TokenScores(
        role,
        tuple(
            TokenPiece(UNKNOWN_ID, token, n < begin, b"" if n < begin else token.encode())
            for n, token in enumerate(tokens[:end])
        ),
        _end(tokens, begin, len(text)),
        tuple(
            TokenDistribution(_top_tokens(top), loss, None)
            for top, loss in zip(distributions, following, strict=True)
        ),
    )


def _begin(tokens: Sequence[str], text: str) -> int | None:
    """Return the index of the text's first token, after special ones; None if it is not found."""
    joined = "".join(tokens)
    at = 0
    for n in range(len(tokens)):
        if text and joined[at:].startswith(text):
            return n
        at += len(tokens[n])
    return None


def _end(tokens: Sequence[str], begin: int, length: int) -> int:
    """Return the index after the token that completes the text's first `length` characters."""
    characters, n = 0, begin
    while characters < length:
        characters += len(tokens[n])
        n += 1
    return n


def _next_token(role: Role, top: object, text: str) -> TokenScores | None:
    """Return scores with the whole text as one token, as its own tokens are unknown."""
    piece = TokenPiece(UNKNOWN_ID, text, False, text.encode())
    top_tokens = _top_tokens(top)
    if not top_tokens:
        return None
    return TokenScores(role, (piece,), 1, (TokenDistribution(top_tokens, None, None),))


def _top_tokens(top: object) -> tuple[TopToken, ...]:
    pairs = (
        top.items()
        if isinstance(top, Mapping)
        else [(entry["token"], entry["logprob"]) for entry in top or []]  # type: ignore[attr-defined]
    )
    ordered = sorted(((math.exp(_logprob(value)), token) for token, value in pairs), reverse=True)
    for _, token in ordered:
        token.encode()  # raises on half a character, which could not be displayed
    return tuple(TopToken(UNKNOWN_ID, token, p, 0.0) for p, token in ordered)


def _logprob(value: Any) -> float:
    """Check and return a log-probability.

    Raises:
        ValueError: the value is not a log-probability.
    """
    logprob = float(value)
    if not (math.isfinite(logprob) and logprob <= 0.01):  # servers round
        raise ValueError(f"{value} is no log-probability")
    return min(logprob, 0.0)
