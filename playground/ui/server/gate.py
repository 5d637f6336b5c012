"""The gate before Gradio: which requests reach it, and with how large a body."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.ui.server.uploads import MAX_UPLOAD, Uploads
from playground.ui.server.visitors import address_of
from playground.ui.work import short

MAX_BODY = 1 << 20
"""Most bytes of a request that uploads no file; the longest text takes 0.8 MB as JSON."""
BODY_S = 60.0
"""Seconds within which the body of a request must have come."""
CLOSED = (
    "component_server",
    "custom_component",
    "deep_link",
    "file/",
    "file=",
    "monitoring",
    "process_recording",
    "proxy=",
    "run-history",
    "runs",
    "stream",
    "vibe-",
    "undo-vibe-",
)
"""Beginnings of Gradio's routes that the page does not use; some write files or run programs."""


class Gate:
    """ASGI middleware that refuses what is too large, too slow or not used here, in one line."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`, with nothing uploaded yet."""
        self._app = app
        self._uploads = Uploads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its whole body, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if any(f"/{route}" in path for route in CLOSED):
            await _refusal(404, "There is no such route here.")(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        uploads = path.rstrip("/").endswith("/upload")
        most = MAX_UPLOAD if uploads else MAX_BODY
        body = await _body(request.headers, receive, most)
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        if uploads:
            content_type = request.headers.get("content-type", "")
            if problem := self._uploads.admit(address_of(request), content_type, body):
                await _refusal(413, problem)(scope, receive, send)
                return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, replay, send)


async def _body(headers: Mapping[str, str], receive: Receive, most: int) -> bytes | Response:
    """Return the body of a request, or the response that refuses it."""
    refusal = _refusal(413, f"A request has at most {most >> 20} MB here. Send less.")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        return refusal
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return _refusal(400, "The request broke off.")
                body += message.get("body", b"")
                if len(body) > most:
                    return refusal
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return _refusal(408, f"The request did not come within {BODY_S:g} seconds.")


def _refusal(status: int, text: str) -> Response:
    return PlainTextResponse(text, status_code=status, headers={"connection": "close"})


async def _invalid(request: Request, error: Exception) -> Response:
    """Say where a request's JSON is not what Gradio expects, without repeating the JSON."""
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = next(iter(error.errors()), {})
    place = ".".join(str(part) for part in first.get("loc", ()))
    return JSONResponse({"error": short(f"{place}: {first.get('msg', 'invalid')}.")}, 422)


async def _unknown(request: Request, error: Exception) -> Response:
    """Say what is wrong with a call that names no event or no argument, which Gradio raises."""
    _, is_call, name = request.url.path.rstrip("/").rpartition("/call/")
    if isinstance(error, TypeError) and is_call:
        words = str(error).partition(" Please ")[0]  # Gradio goes on with a link that is not shown
    elif isinstance(error, KeyError | FnIndexInferError):
        words = f"There is no endpoint /{name.removeprefix('v2/')}" if is_call else "No such event"
    else:
        raise error
    words = f"{short(words.rstrip('.'))}. What there is stands in /gradio_api/info."
    return JSONResponse({"error": words}, 400)


HANDLERS = {
    RequestValidationError: _invalid,
    **dict.fromkeys((TypeError, KeyError, FnIndexInferError), _unknown),
}
"""Handlers of the errors that Gradio raises before an event is in its queue."""
