"""A backend made of several: some variants run on local weights, others on servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from models.backends.base import Backend, TokenEncoder
from models.backends.merge_streams import merge_streams
from models.events import Events, Queued
from models.logprobs import Scores
from models.model_info import Memory, ModelInfo
from models.request import Request, ScoreRequest
from models.types import AS_TRAINED, EncodedPrompt, Format, Prompt, Role, Strengths, Trio

T = TypeVar("T")


class CompositeBackend:
    """Splits a trio between several backends, each of which answers for its own variants."""

    def __init__(self, trio: Trio, parts: Sequence[Backend]) -> None:
        """Combine the backends of a trio's parts; the local one comes first."""
        self.trio = trio
        self._parts = parts
        self._roles = [{variant.role for variant in part.trio.variants} for part in parts]

    @property
    def encoders(self) -> Mapping[Role, TokenEncoder]:
        """Encoders of the variants with local weights."""
        return self._joined(part.encoders for part in self._parts)

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Render and tokenize a prompt for each variant."""
        return self._joined(part.encode(prompt, format, stop_texts) for part in self._parts)

    def model_info(self, strengths: Strengths = AS_TRAINED) -> dict[Role, ModelInfo]:
        """Return which weights or server answer for each variant."""
        return self._joined(
            part.model_info(_of(roles, strengths))
            for part, roles in zip(self._parts, self._roles, strict=True)
        )

    def memory(self) -> Memory:
        """Sum the memory of all parts, in bytes; KV bytes per token are the largest part's."""
        parts = [part.memory() for part in self._parts]
        return Memory(
            sum(memory.base_bytes for memory in parts),
            sum(memory.adapter_bytes for memory in parts),
            sum(memory.head_bytes for memory in parts),
            max(memory.kv_bytes_per_token for memory in parts),
        )

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Score the text with one part after the other."""
        known: Scores = {}
        for part, roles in zip(self._parts, self._roles, strict=True):
            own = replace(
                request,
                roles=roles & set(request.roles),
                strengths=_of(roles, request.strengths),
            )
            scores: Scores = {}
            for scores in part.score(own) if own.roles else ():
                yield self._joined([known, scores])
            known |= scores

    def stream(self, request: Request) -> Events:
        """Run all parts in parallel, and yield their events as they come."""
        streams = {
            number: part.stream(
                replace(
                    request,
                    roles=roles & set(request.roles),
                    strengths=_of(roles, request.strengths),
                )
            )
            for number, (part, roles) in enumerate(zip(self._parts, self._roles, strict=True))
            if roles & set(request.roles)
        }
        events, places = merge_streams(streams), dict.fromkeys(streams, 0)
        try:
            number, event = next(events)
            while True:
                if isinstance(event, Queued):  # each part has its own queue: report the longest
                    places[number] = event.place
                    event = Queued(max(places.values()))
                cancelled = (yield event) or ()
                number, event = events.send(
                    [(n, role) for n in streams for role in cancelled] or None
                )
        except StopIteration:
            return
        finally:
            events.close()

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()

    def _joined(self, parts: Iterable[Mapping[Role, T]]) -> dict[Role, T]:
        """Return the values of all parts, in the order of the trio's variants."""
        values = {role: value for part in parts for role, value in part.items()}
        return {v.role: values[v.role] for v in self.trio.variants if v.role in values}


def _of(roles: set[Role], strengths: Strengths) -> dict[Role, float]:
    """Return only the strengths of the given roles."""
    return {role: strength for role, strength in strengths.items() if role in roles}
