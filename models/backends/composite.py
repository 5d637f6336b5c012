"""Some variants from weights loaded here, others from servers: one backend of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.backends.base import Backend
from models.backends.merge_streams import merge_streams
from models.events import Events, Queued
from models.logprobs import TokenDistribution, Told
from models.model_info import Memory, ModelInfo
from models.request import Request
from models.types import (
    GREEDY,
    NONE,
    EncodedPrompt,
    Format,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
    Trio,
)


class CompositeBackend:
    """A trio in parts; each is asked for its own variants, all at once."""

    def __init__(self, trio: Trio, parts: Sequence[Backend]) -> None:
        """Take the whole trio, and the backends of its parts."""
        self.trio = trio
        self._parts = parts
        self._roles = [{variant.role for variant in part.trio.variants} for part in parts]

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Return what each variant is sent."""
        return self._whole(part.sent(prompt, format, stop_texts) for part in self._parts)

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return an answer's tokens, of the variants whose tokens are known."""
        return self._whole(part.completion(prompt, answer) for part in self._parts)

    def loaded(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Return what answers for each variant."""
        return self._whole(
            part.loaded(own) for part, own in zip(self._parts, self._split(strengths), strict=True)
        )

    def memory(self) -> Memory:
        """Return what is held here."""
        each = [part.memory() for part in self._parts]
        return Memory(
            sum(one.base_bytes for one in each),
            sum(one.adapter_bytes for one in each),
            sum(one.head_bytes for one in each),
            max(one.kv_bytes_per_token for one in each),
        )

    def tokens(self, text: str, opening: bool = False) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return a text's tokens, of the variants whose tokens are known."""
        return self._whole(part.tokens(text, opening) for part in self._parts)

    def pieces(self, ids: Sequence[int]) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return tokens by their ids, of the variants whose tokens are known."""
        return self._whole(part.pieces(ids) for part in self._parts)

    def read(
        self,
        ids: Mapping[Role, Sequence[int]],
        likeliest: int = 0,
        sampling: Sampling = GREEDY,
        strengths: Strengths = NONE,
    ) -> Iterator[dict[Role, list[TokenDistribution]]]:
        """Have one part after the other read."""
        found: dict[Role, list[TokenDistribution]] = {}
        for part, own, scales in zip(
            self._parts, self._split(ids), self._split(strengths), strict=True
        ):
            if own:
                for read in part.read(own, likeliest, sampling, scales):
                    yield {**found, **read}
                found |= read

    def told(
        self, prompt: Prompt, format: Format = "own", answer: str = "", likeliest: int = 0
    ) -> Iterator[dict[Role, Told | str]]:
        """Yield what the part that is endpoints tells."""
        for part in self._parts:
            yield from part.told(prompt, format, answer, likeliest)

    def stream(self, request: Request) -> Events:
        """Yield the events of all parts as they come."""
        asked = {
            number: part.stream(replace(request, roles=own, strengths=scales))
            for number, (part, known, scales) in enumerate(
                zip(self._parts, self._roles, self._split(request.strengths), strict=True)
            )
            if (own := known & set(request.roles))
        }
        events, places = merge_streams(asked), dict.fromkeys(asked, 0)
        try:
            told = next(events)
            while True:
                number, event = told
                if isinstance(event, Queued):  # one waits while the other may not
                    places[number] = event.place
                    event = Queued(max(places.values()))
                unwanted = (yield event) or ()
                told = events.send([(n, role) for n in asked for role in unwanted] or None)
        except StopIteration:
            return
        finally:
            events.close()

    def close(self) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close()

    def _whole(self, parts: Any) -> dict[Role, Any]:
        found = {role: one for part in parts for role, one in part.items()}
        return {v.role: found[v.role] for v in self.trio.variants if v.role in found}

    def _split(self, given: Mapping[Role, Any]) -> list[dict[Role, Any]]:
        """Return what is given for the variants of each part."""
        return [
            {role: one for role, one in given.items() if role in known} for known in self._roles
        ]
