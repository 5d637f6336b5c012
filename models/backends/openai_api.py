"""OpenAI's API: builds the body of a request, and reads the streamed reply. Uses httpx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

from models.errors import WeightsError
from models.types import EncodedPrompt, Endpoint, Format, Sampling, Variant

_MAX_MESSAGE = 200
"""Most characters of a server's error message that are shown."""


def uses_chat(variant: Variant, format: Format) -> bool:
    """Whether a variant's prompt is sent to the chat route as a message, not as raw text."""
    return format == "own" and variant.reads == "chat"


def request_body(
    endpoint: Endpoint, sent: EncodedPrompt, chat: bool, sampling: Sampling
) -> tuple[str, dict[str, Any]]:
    """Return the route and the JSON body of a request for one answer."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": True,
    }
    if sampling.top_k:  # not in OpenAI's API, but vLLM and llama.cpp accept it
        body["top_k"] = sampling.top_k
    if chat:
        return "chat/completions", {**body, "messages": [{"role": "user", "content": sent.text}]}
    return "completions", {**body, "prompt": sent.text}


def check_status(response: httpx.Response, endpoint: Endpoint) -> None:
    """Check the status of a reply.

    Raises:
        WeightsError: the status is an error; the message quotes the server and says what to do.
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
    """Yield each event's text and finish reason, which is empty until the answer ends.

    Raises:
        ValueError: an event is malformed, or reports an error.
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
    """Yield a reply's lines; httpx's `iter_lines` also splits at U+2028, which may be in a text."""
    rest = b""
    for block in response.iter_bytes():
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    yield rest.decode(errors="replace")


def one_line(text: str) -> str:
    """Collapse a server's message into one line of limited length."""
    return " ".join(text.split())[:_MAX_MESSAGE]
