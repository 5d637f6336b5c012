"""The backend for servers with OpenAI's API: vLLM, llama.cpp, TGI, Inference Providers.

Uses httpx, a dependency of huggingface_hub, whose own client has chat completions but not the raw
completions that a base needs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import httpx

from models.backends.base import TokenEncoder
from models.backends.merge_streams import merge_streams, ticks, with_deadline
from models.backends.openai.api import (
    FAILURES,
    HEADERS,
    TIMEOUT,
    failure_message,
    read_json,
    refusal_body,
    request_body,
    route_url,
    status_error,
    stream_reply,
    uses_chat,
)
from models.backends.openai.connection import Connection
from models.backends.openai.errors import ReplyError
from models.backends.openai.fields import RequestFields, asked_as
from models.backends.openai.logprobs import logprob_requests, read_reply
from models.backends.openai.reply import ReplyEnd
from models.errors import PromptError, WeightsError
from models.events import Event, Events, Note, Queued, Stop
from models.logprobs import Scores, TokenScores, Unavailable
from models.model_info import HeadGate, Memory, ModelInfo
from models.request import Request, ScoreRequest
from models.text.detokenizer import StopText
from models.text.loops import looped
from models.text.render import check_characters, stop_text, to_message, to_text
from models.types import (
    AS_TRAINED,
    EncodedPrompt,
    Endpoint,
    Format,
    Prompt,
    Role,
    Strengths,
    Trio,
    Variant,
)


class OpenAIBackend:
    """Runs variants on servers: one request for each variant, all in parallel."""

    encoders: Mapping[Role, TokenEncoder] = {}
    """Empty, as servers tokenize on their side."""

    def __init__(self, trio: Trio) -> None:
        """Read the API keys of a trio, or part of one, with only endpoints; sends no request yet.

        Raises:
            WeightsError: a key is missing from the environment, or not printable ASCII.
        """
        self.trio = trio
        self._endpoints: dict[Role, Endpoint] = {}
        self._headers: dict[Role, dict[str, str]] = {}
        self._fields: dict[tuple[Role, frozenset[str]], RequestFields] = {}
        for variant in trio.variants:
            assert isinstance(variant.source, Endpoint)
            name = variant.source.key
            key = os.environ.get(name, "").strip() if name else ""
            if name and not (key.isascii() and key.isprintable() and key):
                raise WeightsError(
                    f"{trio.name}.{variant.role} needs its key in the environment variable {name}: "
                    "printable ASCII, which it does not hold."
                )
            self._endpoints[variant.role] = variant.source
            self._headers[variant.role] = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_keepalive_connections=0)  # some servers close after an error
        self._client = httpx.Client(headers=HEADERS, timeout=TIMEOUT, limits=limits)

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Render a prompt for each server, as a chat message or as text, without tokens."""
        text = to_text(prompt)
        check_characters(text)
        stop = stop_text(prompt) if stop_texts else None
        return {
            variant.role: EncodedPrompt(to_message(prompt).content, ())
            if uses_chat(variant, format)
            else EncodedPrompt(
                text + (variant.ends_with if format == "own" else ""), (), (stop,) if stop else ()
            )
            for variant in self.trio.variants
        }

    def stream(self, request: Request) -> Events:
        """Yield the servers' answers; labels are not ranked, as that needs the model's logits."""
        if request.forced_prefix:
            raise self._refusal("goes on from forced tokens")
        self._check_strengths(request.strengths)
        sent = self.encode(request.prompt, request.format, request.stop_texts)
        connections = {role: Connection() for role in sent if role in request.roles}
        yield from with_deadline(
            {
                v.role: self._answer(v, sent[v.role], request, connections[v.role])
                for v in self.trio.variants
                if v.role in connections
            },
            request.deadline_s,
            lambda role: connections[role].end(),
        )

    def _answer(
        self, variant: Variant, sent: EncodedPrompt, request: Request, connection: Connection
    ) -> Generator[Event, Collection[Role] | None, None]:
        """Send a request to one server, and yield its tokens and its `Stop`."""
        role, endpoint = variant.role, self._endpoints[variant.role]
        stops = StopText(sent.stop_texts)
        began, end, error = time.monotonic(), ReplyEnd("error"), None
        chat, texts = uses_chat(variant, request.format), list[str]()
        route, body = request_body(endpoint, sent, chat, request.sampling)
        try:
            with self._reply(role, route, body, connection) as (response, notes):
                for part in stream_reply(response, request.deadline_s):
                    for note in notes:
                        if (yield Note(role, note)):
                            return  # cancelled: the connection is closed
                    notes = ()
                    if isinstance(part, ReplyEnd):
                        end = part
                        break
                    shown, hit = stops.add(part.text)
                    for event in part.events(role, shown, time.monotonic() - began):
                        if (yield event):
                            return
                    if hit:
                        end = ReplyEnd("stop")
                        break
                    if part.text:
                        texts.append(part.text)
                    if request.stop_loops and looped(texts):
                        end = ReplyEnd("loop")
                        break
        except FAILURES as failure:
            error = failure_message(endpoint, failure)
        for note in end.notes:
            yield Note(role, note)
        yield Stop(role, end.reason, time.monotonic() - began, stops.rest() + end.text, error)

    @contextmanager
    def _reply(
        self, role: Role, route: str, body: Mapping[str, Any], connection: Connection
    ) -> Iterator[tuple[httpx.Response, tuple[str, ...]]]:
        """Send a request, again without each field that the server refuses; yield reply and notes.

        What was refused is kept for requests with the same fields, once one has been answered.

        Raises:
            WeightsError: the status of the reply is an error.
        """
        endpoint, kind = self._endpoints[role], (role, frozenset(body))
        fields: RequestFields | None = self._fields.get(kind, RequestFields(endpoint))
        while fields:
            sent, url = fields.rename(body), route_url(endpoint, route)
            with connection.post(self._client, url, sent, self._headers[role]) as response:
                if response.is_success:
                    yield response, fields.notes
                    self._fields[kind] = fields
                    return
                refusal = refusal_body(response, endpoint)
            fields = fields.learn(sent, refusal) if response.status_code in (400, 422) else None
        raise status_error(response, endpoint, refusal)

    def model_info(self, strengths: Strengths = AS_TRAINED) -> dict[Role, ModelInfo]:
        """Return each variant's server; which weights it really runs is unknown."""
        self._check_strengths(strengths)
        return {
            role: ModelInfo(
                asked_as(endpoint), None, "as served", "unknown", "endpoint", "", HeadGate(False)
            )
            for role, endpoint in self._endpoints.items()
        }

    def memory(self) -> Memory:
        """Return zeros, as the weights are on the servers."""
        return Memory(0, 0, 0, 0)

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Request the log-probabilities of a text from all servers in parallel."""
        self._check_strengths(request.strengths)
        sent = self.encode(request.prompt, request.format)
        scores: Scores = {}
        connections = {role: Connection() for role in sent if role in request.roles}
        waiting = set(connections)

        def ask(variant: Variant) -> Generator[TokenScores | Unavailable, Any, None]:
            connection = connections[variant.role]
            yield self._score(variant, sent[variant.role].text, request, connection)

        requests = {v.role: ask(v) for v in self.trio.variants if v.role in waiting}
        with ExitStack() as stack:
            answers = merge_streams({**requests, None: ticks(waiting)}, wait=False)
            stack.enter_context(closing(answers))
            for connection in connections.values():  # before the streams are closed
                stack.callback(connection.end)
            while waiting:
                role, answer = next(answers)
                if role and not isinstance(answer, Queued):
                    scores[role] = answer
                    waiting.discard(role)
                yield {role: scores[role] for role in requests if role in scores}

    def _score(
        self, variant: Variant, text: str, request: ScoreRequest, connection: Connection
    ) -> TokenScores | Unavailable:
        """Return the scores from one server, or the reason why there are none."""
        role, endpoint = variant.role, self._endpoints[variant.role]
        pieces = request.continuation.get(role, ())
        continuation = b"".join(piece.data for piece in pieces).decode(errors="replace")
        chat = uses_chat(variant, request.format)
        reason = "its server tells no log-probabilities"
        for route, body in logprob_requests(endpoint.model, text, continuation, chat, request.top):
            try:
                with self._reply(role, route, body, connection) as (response, _):
                    if scores := read_reply(role, read_json(response), text, continuation):
                        return scores
            except WeightsError as refusal:  # the server may accept the next request
                reason = str(refusal)
            except ReplyError as problem:
                reason = failure_message(endpoint, ReplyError(f"cannot be asked: it {problem}"))
            except FAILURES as failure:
                return Unavailable(failure_message(endpoint, failure))
        return Unavailable(reason)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _check_strengths(self, strengths: Strengths) -> None:
        if strengths:
            raise self._refusal("has an adapter whose strength could be set")

    def _refusal(self, what: str) -> PromptError:
        roles = " and ".join(self._endpoints)
        return PromptError(f"{roles} of {self.trio.name} is an endpoint, none of which {what}.")
