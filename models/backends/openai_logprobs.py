"""A server's log-probabilities → what it expects after the tokens of a text, as far as it tells.

Servers differ. Some echo a prompt with what each of its tokens cost (vLLM, llama-cpp-python; the
older form of OpenAI's protocol); some tell what comes next alone (llama.cpp, chat routes; the newer
form); some tell nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.logprobs import TokenDistribution, Told, TopToken
from models.types import UNKNOWN_ID, TokenPiece

FEW = 5
"""Likeliest tokens that OpenAI's own protocol allows; others tell more."""


def requests(
    model: str, text: str, after: str, chat: bool, likeliest: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return routes and bodies that may make a server tell, the one that tells most first.

    Args:
        model: as the server knows it.
        text: what is sent.
        after: what follows it, an answer; a chat route cannot be given one.
        chat: whether it is a message to a chat route.
        likeliest: how many of the likeliest tokens are wanted.
    """
    usual: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0.0}
    counts = sorted({max(1, likeliest), min(FEW, max(1, likeliest))}, reverse=True)
    if chat:
        message = {"messages": [{"role": "user", "content": text}], "logprobs": True}
        bodies = [{**usual, **message, "top_logprobs": count} for count in counts]
        return [] if after else [("chat/completions", body) for body in bodies]
    bodies = [
        {**usual, "prompt": text + after, "logprobs": count, "echo": True} for count in counts
    ]
    if not after:
        bodies += [{**usual, "prompt": text, "logprobs": count} for count in counts]
    return [("completions", body) for body in bodies]


def read_reply(reply: object, text: str, after: str) -> Told | None:
    """Return what a reply tells; None where it tells nothing of use.

    Raises:
        ValueError: it is not what the protocol says.
    """
    try:
        logprobs = reply["choices"][0].get("logprobs")  # type: ignore[index]
        if not logprobs:
            return None
        if "tokens" not in logprobs:
            content = logprobs["content"]
            return None if after or not content else _next_alone(content[0]["top_logprobs"], text)
        if len(logprobs["tokens"]) > 1:
            return _echoed(logprobs, text, after)
        return None if after else _next_alone((logprobs.get("top_logprobs") or [None])[0], text)
    except (AttributeError, KeyError, IndexError, TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"its log-probabilities are not as they should be: {error!r}") from error


def _echoed(logprobs: Mapping[str, Any], text: str, after: str) -> Told | None:
    """Read the older form: lists over the prompt's tokens and the one that was generated.

    None where the tokens do not join to the text: some servers tell parts of a character by name.
    """
    tokens, tops = logprobs["tokens"], logprobs.get("top_logprobs") or []
    begins = _begins(tokens, text + after)
    if begins is None:
        return None
    ends = _ending(tokens, begins, len(text + after))
    nats = [None if one is None else -_logprob(one) for one in logprobs["token_logprobs"]]
    following = [*nats[1:ends], None]
    expected = [*tops[1 : ends + 1], *[None] * ends][:ends]
    return Told(
        tuple(
            TokenPiece(UNKNOWN_ID, one, n < begins, b"" if n < begins else one.encode())
            for n, one in enumerate(tokens[:ends])
        ),
        _ending(tokens, begins, len(text)),
        tuple(
            TokenDistribution(_likeliest(top), cost, None)
            for top, cost in zip(expected, following, strict=True)
        ),
    )


def _begins(tokens: Sequence[str], text: str) -> int | None:
    """Return where in the tokens the text begins, after special ones; None if it is not there."""
    whole = "".join(tokens)
    at = 0
    for n in range(len(tokens)):
        if text and whole[at:].startswith(text):
            return n
        at += len(tokens[n])
    return None


def _ending(tokens: Sequence[str], begins: int, length: int) -> int:
    """Return how many tokens hold that much of the text."""
    held, n = 0, begins
    while held < length:
        held += len(tokens[n])
        n += 1
    return n


def _next_alone(top: object, text: str) -> Told | None:
    """Take the whole text as one token, for how it is cut is not told."""
    piece = TokenPiece(UNKNOWN_ID, text, False, text.encode())
    likeliest = _likeliest(top)
    return Told((piece,), 1, (TokenDistribution(likeliest, None, None),)) if likeliest else None


def _likeliest(top: object) -> tuple[TopToken, ...]:
    pairs = (
        top.items()
        if isinstance(top, Mapping)
        else [(one["token"], one["logprob"]) for one in top or []]  # type: ignore[attr-defined]
    )
    found = sorted(((math.exp(_logprob(nats)), token) for token, nats in pairs), reverse=True)
    for _, token in found:
        token.encode()  # half a character would break what it is shown in
    return tuple(TopToken(UNKNOWN_ID, token, p, 0.0) for p, token in found)


def _logprob(value: Any) -> float:
    """Return a log-probability.

    Raises:
        ValueError: it is none.
    """
    found = float(value)
    if not (math.isfinite(found) and found <= 0.01):  # a server rounds
        raise ValueError(f"its log-probabilities are not as they should be: {value!r}")
    return min(found, 0.0)
