"""One answer in OpenAI's protocol: what is asked, and how the reply is read. Over httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from models.errors import WeightsError
from models.types import EncodedPrompt, Endpoint, Format, Sampling, Variant

_SHOWN = 200
"""Characters of a server's complaint that are told."""


def chats(variant: Variant, format: Format) -> bool:
    """Whether a variant is asked by a message, and not by a text."""
    return format == "own" and variant.reads == "chat"


def body_of(
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


def check(response: httpx.Response, endpoint: Endpoint) -> None:
    """Refuse a reply that is a complaint.

    Raises:
        WeightsError: it is one; the message says what the server said, and what would do.
    """
    if response.is_success:
        return
    said = one_line(response.read().decode(errors="replace"))
    cure = {
        401: "Set its key.",
        403: "Its key may not ask this.",
        404: "Look at the address and the model's name.",
        429: "It has too much to do. Try again later.",
    }.get(response.status_code, "")
    raise WeightsError(f"{endpoint} answered {response.status_code}: {said} {cure}".strip())


def heard(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """Yield each event's text, and why the answer ended there; empty where it goes on.

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
    """Yield a reply's lines. Those of httpx end at U+2028 too, which may stand inside a text."""
    left = b""
    for block in response.iter_bytes():
        *whole, left = (left + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    yield left.decode(errors="replace")


def one_line(text: str) -> str:
    """Return a server's words as one line, not too long."""
    return " ".join(text.split())[:_SHOWN]
