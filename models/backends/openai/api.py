"""OpenAI's API: builds the body of a request, and reads the reply. Uses httpx."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from models.backends.openai.errors import (
    ReplyError,
    body_words,
    error_words,
    malformed,
    one_line,
    parse_json,
    sentence,
)
from models.backends.openai.reply import ReplyEnd, ReplyPart, ReplyReader
from models.backends.openai.server_sent_events import MAX_BYTES, read_events
from models.errors import WeightsError
from models.types import EncodedPrompt, Endpoint, Format, Sampling, Variant

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""In seconds; a server may prefill a long prompt before it sends anything."""
MAX_ANSWER_S = 1800.0
"""Seconds that an answer may take for which no deadline is given."""
_GRACE_S = 2.0
"""Seconds after a deadline in which it is told as such, before the reply is given up."""
HEADERS = {"Accept-Encoding": "identity"}
"""Sent with every request."""
FAILURES = (WeightsError, ReplyError, httpx.HTTPError, httpx.StreamError, httpx.InvalidURL)
"""What a request or a reply may raise; `failure_message` says it."""
_MAX_ERROR_BYTES = 1 << 14
"""Most bytes of a refusal that are read."""
_REFUSAL_S = 10.0
"""Seconds for which a refusal is read."""
_WHOLE_S = 180.0
"""Seconds in which a reply that is not streamed must have come."""
_CURES = {
    401: "Set its key.",
    403: "Its key may not ask this.",
    404: "Look at the address and the model's name.",
    405: "Look at the address.",
    429: "It has too much to do. Try again later.",
    **dict.fromkeys((500, 501), "Its log may say why."),
    **dict.fromkeys((502, 503, 504), "Its model may not be loaded yet. Try again later."),
}


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
    # Top-k, min-p and the repetition penalty are not in OpenAI's API, but in vLLM's. llama.cpp has
    # the last by another name, which the trio file gives (`request`).
    usual = Sampling()
    for name in ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        if (value := getattr(sampling, name)) != getattr(usual, name):
            body[name] = value
    if chat:
        return "chat/completions", {**body, "messages": [{"role": "user", "content": sent.text}]}
    return "completions", {**body, "prompt": sent.text}


def route_url(endpoint: Endpoint, route: str) -> str:
    """Return the URL of a route, with the query of the endpoint's own URL."""
    address = urlsplit(endpoint.url)
    return address._replace(path=f"{address.path}/{route}").geturl()


def body_blocks(response: httpx.Response, until_s: float = math.inf) -> Iterator[bytes]:
    """Yield the bytes of a reply's body as they come, until a time of the monotonic clock.

    Raises:
        ReplyError: they come for too long, or are compressed, although `HEADERS` ask for plain
            ones: a few of them may become gigabytes.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise ReplyError(f"compresses its answer ({one_line(encoding)}), which is not read.")
    for block in response.iter_raw():
        yield block
        if time.monotonic() > until_s:  # a drip of comments would hold thread and socket for ever
            raise ReplyError("did not end its answer in time.")


def refusal_body(response: httpx.Response, endpoint: Endpoint) -> str:
    """Return the body of a reply whose status is an error, as far as it is read."""
    body, until_s = bytearray(), time.monotonic() + _REFUSAL_S
    for block in body_blocks(response):
        body += block
        if len(body) > _MAX_ERROR_BYTES or time.monotonic() > until_s:
            break
    return _without_query(body.decode(errors="replace"), endpoint)


def _without_query(words: str, endpoint: Endpoint) -> str:
    """Return words that may repeat the endpoint's query, a secret perhaps, without its parts."""
    for part in filter(None, urlsplit(endpoint.url).query.split("&")):
        words = words.replace(part, "…") if "=" in part else words.replace(f"?{part}", "?…")
    return words


def status_error(response: httpx.Response, endpoint: Endpoint, body: str) -> WeightsError:
    """Return the error of a status: it quotes the server and says what to do."""
    status, cure = response.status_code, _CURES.get(response.status_code, "")
    if response.has_redirect_location:
        cure = _redirect_words(response)
    elif status == 401 and endpoint.key:
        cure = f"The key in {endpoint.key} was refused."
    words = one_line(body_words(body))
    if not words and not cure:
        return WeightsError(
            f"{endpoint} answered {status} {response.reason_phrase}, without a word."
        )
    words = sentence(words) if words and cure else words
    return WeightsError(" ".join(filter(None, [f"{endpoint} answered {status}:", words, cure])))


def _redirect_words(response: httpx.Response) -> str:
    """Return where a redirect leads, without its query, which may hold a secret.

    It is not followed: the prompt and the key are for the host that is named.
    """
    target = response.url.join(response.headers["location"])
    place = one_line(str(target.copy_with(query=None, fragment=None, userinfo=b"")))
    moved = re.fullmatch(r"(.*?)/(chat/)?completions", place)
    if not moved:
        return f"It redirects to {place}, which is not followed. Look at its address and key."
    query = " (with its query, which is not shown)" if target.query else ""
    return f"It has moved to {moved[1]}: put that into the trio file{query}."


def stream_reply(
    response: httpx.Response, deadline_s: float | None = None
) -> Iterator[ReplyPart | ReplyEnd]:
    """Yield the parts of a reply as they come, and its end; give it up soon after its deadline.

    Raises:
        ReplyError: the reply is no answer, or reports an error.
        httpx.HTTPError: the connection broke before the answer had ended.
    """
    reader = ReplyReader()
    until_s = time.monotonic() + (deadline_s or MAX_ANSWER_S) + _GRACE_S
    try:
        for event in read_events(body_blocks(response, until_s)):
            if event.data.strip().strip('"') == "[DONE]":
                reader.done = True
                break
            try:
                yield reader.read(event)
            except RecursionError as error:  # brackets within brackets
                raise malformed(event.data) from error
    except (httpx.HTTPError, httpx.StreamError):
        if not reader.finish_reason:
            raise
    yield reader.end()


def read_json(response: httpx.Response) -> Any:
    """Return the JSON of a reply that is not streamed.

    Raises:
        ReplyError: the reply is not JSON, or reports an error.
    """
    body = bytearray()
    for block in body_blocks(response, time.monotonic() + _WHOLE_S):
        body += block
        if len(body) > MAX_BYTES:
            raise ReplyError(f"sent more than {MAX_BYTES >> 20} MB for one answer.")
    reply = parse_json(body.decode(errors="replace"))
    if words := error_words(reply):
        raise ReplyError(f"reports an error: {one_line(words)}")
    return reply


def failure_message(endpoint: Endpoint, failure: Exception) -> str:
    """Return what went wrong with a request to a server, in one line."""
    if isinstance(failure, WeightsError):
        return str(failure)
    if isinstance(failure, ReplyError):
        return f"{endpoint} {_without_query(str(failure), endpoint)}"
    words = sentence(one_line(str(failure)) or type(failure).__name__)
    if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout):
        return f"{endpoint} cannot be reached: {words} Is it running?"
    if isinstance(failure, httpx.TimeoutException):
        return f"{endpoint} has sent nothing for {TIMEOUT.read:g} seconds."
    if isinstance(failure, httpx.InvalidURL):
        return f"{endpoint} is not an address: {words}"
    return f"{endpoint} broke off its answer: {words}"
