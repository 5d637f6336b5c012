"""One answer in OpenAI's protocol: the request's body, and how the reply is read. Over httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from models.errors import WeightsError
from models.types import EncodedPrompt, Endpoint, Format, Sampling, Variant

_MAX_MESSAGE = 200
"""Characters of a server's error message that are shown."""


def uses_chat(variant: Variant, format: Format) -> bool:
    """Whether a variant is sent a message to the chat route, and not a text."""
    return format == "own" and variant.reads == "chat"


def request_body(
    endpoint: Endpoint, sent: EncodedPrompt, chat: bool, sampling: Sampling
) -> tuple[str, dict[str, Any]]:
    """Return the route and the body that ask for one answer."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": True,
    }
    if sampling.top_k:  # not in the protocol, but vLLM and llama.cpp know it
        body["top_k"] = sampling.top_k
    if chat:
        return "chat/completions", {**body, "messages": [{"role": "user", "content": sent.text}]}
    return "completions", {**body, "prompt": sent.text}


def check_status(response: httpx.Response, endpoint: Endpoint) -> None:
    """Refuse a reply whose status is an error.

    Raises:
        WeightsError: with the server's own words, and what would do.
    """
    if response.is_success:
        return
    message = one_line(response.read().decode(errors="replace"))
    cure = {
        401: "Set its key.",
        403: "Its key may not ask this.",
        404: "Look at the address and the model's name.",
        429: "It has too much to do. Try again later.",
    }.get(response.status_code, "")
    raise WeightsError(f"{endpoint} answered {response.status_code}: {message} {cure}".strip())


def stream_texts(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """Yield each event's text and its finish reason; empty where the answer goes on.

    Raises:
        ValueError: an event is not what the protocol says, or an error.
    """
    for line in _lines(response):
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        choices = event.get("choices") or [] if isinstance(event, dict) else None
        if not isinstance(choices, list) or event.get("error"):
            raise ValueError(data)
        for choice in choices[:1]:
            if not isinstance(choice, dict):
                raise ValueError(data)
            delta = choice.get("delta")
            text = choice.get("text") or (isinstance(delta, dict) and delta.get("content")) or ""
            yield str(text), str(choice.get("finish_reason") or "")


def _lines(response: httpx.Response) -> Iterator[str]:
    """Yield a reply's lines. httpx's own end at U+2028, too, which may stand inside a text."""
    rest = b""
    for block in response.iter_bytes():
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    yield rest.decode(errors="replace")


def one_line(text: str) -> str:
    """Return a server's words as one line, not too long."""
    return " ".join(text.split())[:_MAX_MESSAGE]
