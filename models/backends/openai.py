"""Answers from servers that speak OpenAI's protocol: vLLM, llama.cpp, TGI, Inference Providers.

Over httpx, which huggingface_hub brings: its own client has the chat route but no raw completion,
and a base is asked by raw completion.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NoReturn

import httpx

from models.backends.merge_streams import clock, merge_streams, until
from models.backends.openai_api import body_of, chats, check, heard, one_line
from models.backends.openai_logprobs import read_reply, requests
from models.errors import PromptError, WeightsError
from models.events import Event, Events, Queued, Stop, Token
from models.logprobs import TokenDistribution, Told
from models.model_info import HeadGate, Memory, ModelInfo
from models.request import Request
from models.text.detokenizer import StopText
from models.text.render import check_characters, stop_text, to_message, to_text
from models.types import (
    GREEDY,
    NONE,
    UNKNOWN_ID,
    EncodedPrompt,
    Endpoint,
    Format,
    Prompt,
    Role,
    Sampling,
    StopReason,
    Strengths,
    TokenPiece,
    Trio,
    Variant,
)

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds: a server may read a long prompt before it says anything."""
_ENDS: Mapping[str, StopReason] = {"stop": "eos", "length": "length"}


class OpenAIBackend:
    """Variants that servers answer for; each is asked by itself, all at once."""

    def __init__(self, trio: Trio) -> None:
        """Take a trio, or the part of one, of endpoints alone; nothing is asked yet.

        Raises:
            WeightsError: a key is not in the environment.
        """
        self.trio = trio
        self._endpoints: dict[Role, Endpoint] = {}
        self._headers: dict[Role, dict[str, str]] = {}
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
        self._client = httpx.Client(timeout=TIMEOUT)

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Return what each server is sent: the message or the text; it tokenises by itself."""
        text = to_text(prompt)
        check_characters(text)
        stop = stop_text(prompt) if stop_texts else None
        return {
            variant.role: EncodedPrompt(to_message(prompt).content, ())
            if chats(variant, format)
            else EncodedPrompt(
                text + (variant.ends_with if format == "own" else ""), (), (stop,) if stop else ()
            )
            for variant in self.trio.variants
        }

    def stream(self, request: Request) -> Events:
        """Yield what the servers say; labels are not ranked, which takes a model's own logits."""
        if request.forced_prefix:
            self._refuse("goes on from forced tokens")
        if request.strengths:
            self._refuse("has an adapter whose strength could be set")
        sent = self.sent(request.prompt, request.format, request.stop_texts)
        yield from until(
            {
                v.role: self._answer(v, sent[v.role], request.format, request.sampling)
                for v in self.trio.variants
                if v.role in request.roles
            },
            request.deadline_s,
        )

    def _answer(
        self, variant: Variant, sent: EncodedPrompt, format: Format, sampling: Sampling
    ) -> Generator[Event, Collection[Role] | None, None]:
        """Ask one server, and yield its tokens and its Stop."""
        role, endpoint, stops = (
            variant.role,
            self._endpoints[variant.role],
            StopText(sent.stop_texts),
        )
        began, reason, error = time.monotonic(), None, None
        route, body = body_of(endpoint, sent, chats(variant, format), sampling)
        try:
            with self._client.stream(
                "POST", f"{endpoint.url}/{route}", json=body, headers=self._headers[role]
            ) as response:
                check(response, endpoint)
                for text, ended in heard(response):
                    shown, hit = stops.add(text)
                    if text:
                        at_s = time.monotonic() - began
                        if (yield Token(role, UNKNOWN_ID, shown, math.nan, at_s)):
                            return  # nobody wants it any more: the connection is closed
                    if hit or ended:
                        reason = "stop" if hit else _ENDS.get(ended, "eos")
                        break
        except WeightsError as complaint:
            error = str(complaint)
        except httpx.ConnectError as failure:
            error = f"{endpoint} cannot be reached: {one_line(str(failure))}. Is it running?"
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as failure:
            error = f"{endpoint} does not answer as it should: {type(failure).__name__}."
        except ValueError as failure:
            error = f"{endpoint} does not answer as it should: {one_line(str(failure))}"
        rest = "" if reason == "stop" else stops.rest()
        if not reason and not error:
            error = f"{endpoint} ended its answer without saying why."
        at_s = time.monotonic() - began
        yield Stop(role, reason or "error", at_s, rest, error)

    def loaded(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Return the servers; what answers there is known to them alone."""
        if strengths:
            self._refuse("has an adapter whose strength could be set")
        return {
            role: ModelInfo(str(one), None, "as served", "unknown", "endpoint", "", HeadGate(False))
            for role, one in self._endpoints.items()
        }

    def memory(self) -> Memory:
        """Hold nothing here."""
        return Memory(0, 0, 0, 0)

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[TokenPiece, ...]]:
        """Tell nothing: a server's tokens are not known here."""
        return {}

    def tokens(self, text: str, opening: bool = False) -> dict[Role, tuple[TokenPiece, ...]]:
        """Tell nothing: a server's tokens are not known here."""
        return {}

    def pieces(self, ids: Sequence[int]) -> dict[Role, tuple[TokenPiece, ...]]:
        """Tell nothing: a server's tokens are not known here."""
        return {}

    def read(
        self,
        ids: Mapping[Role, Sequence[int]],
        likeliest: int = 0,
        sampling: Sampling = GREEDY,
        strengths: Strengths = NONE,
    ) -> Iterator[dict[Role, list[TokenDistribution]]]:
        """Refuse: a server's log-probabilities of a given text are not known here."""
        self._refuse("tells what a text costs it")

    def told(
        self, prompt: Prompt, format: Format = "own", answer: str = "", likeliest: int = 0
    ) -> Iterator[dict[Role, Told | str]]:
        """Ask all servers at once for the log-probabilities of a text; see `Backend`."""
        sent, found = self.sent(prompt, format), dict[Role, Told | str]()
        left = set(sent)

        def ask(variant: Variant) -> Generator[Told | str, Any, None]:
            yield self._told(variant, sent[variant.role].text, answer, format, likeliest)

        asked = {variant.role: ask(variant) for variant in self.trio.variants}
        with closing(merge_streams({**asked, None: clock(left)}, wait=False)) as told:
            while left:
                role, one = next(told)
                if role and not isinstance(one, Queued):
                    found[role] = one
                    left.discard(role)
                yield dict(found)

    def _told(
        self, variant: Variant, text: str, answer: str, format: Format, likeliest: int
    ) -> Told | str:
        """Return what a server tells, or why it tells nothing."""
        endpoint, why = self._endpoints[variant.role], "its server tells no log-probabilities"
        asked = requests(endpoint.model, text, answer, chats(variant, format), likeliest)
        for route, body in asked:
            try:
                response = self._client.post(
                    f"{endpoint.url}/{route}", json=body, headers=self._headers[variant.role]
                )
                check(response, endpoint)
                if found := read_reply(response.json(), text, answer):
                    return found
            except WeightsError as complaint:  # another question may be answered
                why = str(complaint)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as failure:
                return f"{endpoint} cannot be asked: {one_line(str(failure))}"
        return why

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refuse(self, what: str) -> NoReturn:
        roles = " and ".join(self._endpoints)
        raise PromptError(f"{roles} of {self.trio.name} is an endpoint, none of which {what}.")
