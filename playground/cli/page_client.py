"""Asks a page that is running, by its API, instead of loading the trio a second time."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Any

import httpx

from models import ModelError, PromptError, Request

_SHOWN = (
    "text", "new_tokens", "first_token_s", "tokens_per_s", "stopped", "reasoning", "notes", "error",
)  # fmt: skip
"""What is printed of an answer."""
_NO_RECORD = (ValueError, KeyError, TypeError, AttributeError)
"""Errors that come of reading a record in what is none."""
_CONNECT_S = 0.1
_READ_S = 60.0
"""Seconds without any message after which a page counts as lost; Gradio sends one every 15."""


def running_page() -> str | None:
    """Return the address of a Triptych page on this machine's usual port; None if there is none."""
    url = f"http://127.0.0.1:{os.environ.get('GRADIO_SERVER_PORT') or 7860}"
    with suppress(httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError):
        timeout = httpx.Timeout(1.0, connect=_CONNECT_S)
        info = httpx.get(f"{url}/gradio_api/info", timeout=timeout, trust_env=False).json()
        if "/compare" in info.get("named_endpoints", {}):
            return url
    return None


def compare_at(url: str, request: Request, trio: str) -> Generator[dict[str, Any]]:
    """Have a page compare its variants; yield the records of the comparison, the last one whole.

    Args:
        url: the page's address.
        request: the prompt and its settings.
        trio: the name of one of the page's trios; empty for its first.

    Raises:
        ModelError: there is no such page, it refuses, or it breaks off.
    """
    prompt, sampling = request.prompt, request.sampling
    examples = [f"{shown.input} => {shown.output}" for shown in prompt.demonstrations]
    arguments = [
        prompt.input or prompt.instruction,
        prompt.form,
        prompt.instruction if prompt.input else "",
        examples,
        request.format,
        sampling.max_new_tokens,
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
        sampling.seed,
        request.strengths.get("task", 1.0),
        request.strengths.get("instruct", 1.0),
        trio,
        sampling.min_p,
        sampling.repetition_penalty,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        request.stop_loops,
    ]
    endpoint = f"{url.rstrip('/')}/gradio_api/call/compare"
    try:
        is_here = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")  # no proxy in between
        timeout = httpx.Timeout(_READ_S, connect=5.0)
        with httpx.Client(timeout=timeout, trust_env=not is_here) as client:
            posted = client.post(endpoint, json={"data": arguments}).raise_for_status()
            with client.stream("GET", f"{endpoint}/{posted.json()['event_id']}") as reply:
                yield from _records(url, reply.iter_lines())
    except (httpx.HTTPError, httpx.InvalidURL, *_NO_RECORD) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        what = f"it lacks {what}" if isinstance(error, KeyError) else what
        raise ModelError(f"{url} does not answer as a page of Triptych does: {what}") from error


def _records(url: str, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the records in a stream of server-sent events."""
    event, answered = "", False
    for line in lines:
        if line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:") and event in ("generating", "complete", "error"):
            data = json.loads(line.removeprefix("data:"))
            if event == "error":
                message = data.get("error") if isinstance(data, dict) else data
                raise PromptError(str(message or f"{url} refused, without saying why."))
            if data and "answers" in data[0]:
                yield _checked(data[0])
                answered = True
            if event == "complete" and answered:
                return
    raise ModelError(f"{url} broke off its answer. Its log may say why.")


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, if it has what is printed of it.

    Raises:
        KeyError: it lacks something, as of a page of another version.
    """
    for answer in record["answers"].values():
        for key in _SHOWN:
            answer[key]
        for key in ("model", "adapter"):
            answer["weights"][key]
    return record
