"""One answer while it is generated: turns token ids into text, and decides when it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.engine.interface import SampledToken, SequenceEngine, SequenceSpec
from models.events import Event, Ranked, Stop, Token
from models.text.detokenizer import StopText
from models.text.loops import looped
from models.types import Role, Sampling, StopReason


class TokenDecoder(Protocol):
    """Incremental detokenizer: token ids → text."""

    def add(self, id: int) -> str:
        """Return the text that this token adds."""
        ...

    def rest(self) -> str:
        """Return the text that is still withheld at the end."""
        ...


@dataclass(slots=True, eq=False)
class Generation:
    """One variant's answer to a request, until it ends."""

    role: Role
    engine: SequenceEngine[Any]
    spec: SequenceSpec
    sampling: Sampling
    detokenizer: TokenDecoder
    stops: StopText
    remaining: int
    """Number of tokens that it may still generate."""
    eos_ids: frozenset[int]
    sequence: Any = None
    """The engine's record of it; None before it is added, and after it has ended."""
    prefilled: bool = False
    reason: StopReason | None = None
    """Why it ended; None while it runs."""
    labels: Sequence[Sequence[int]] = ()
    """Token ids of each label whose log-probability after the prompt is requested."""
    stops_loops: bool = False
    """Whether it ends where it goes round in circles."""
    ids: list[int] = field(default_factory=list)
    """Token ids of the answer so far."""

    def rank_labels(self) -> Ranked:
        """Compute the log-probability of each label; the prompt must be just prefilled."""
        logprobs = self.engine.score_continuations(self.sequence, self.labels)
        return Ranked(self.role, tuple(logprobs))

    def accept(self, token: SampledToken, at_s: float) -> Iterator[Event]:
        """Yield the events of one new token; sets `reason` if it is the last."""
        self.remaining -= 1
        self.ids.append(token.id)
        text = ""
        if token.id in self.eos_ids:
            self.reason = "eos"
        else:
            text, hit = self.stops.add(self.detokenizer.add(token.id))
            if hit:
                self.reason = "stop"
            elif self.stops_loops and looped(self.ids):
                self.reason = "loop"
            elif self.remaining == 0:
                self.reason = "length"
        yield Token(self.role, token.id, text, token.logprob, at_s)
        if self.reason:
            yield self.end(self.reason, at_s)

    def end(self, reason: StopReason, at_s: float, error: str | None = None) -> Stop:
        """End the answer, with the text withheld so far unless a stop text ended it."""
        self.reason = reason
        rest = ""
        if reason != "stop":
            rest, _ = self.stops.add(self.detokenizer.rest())
            rest += self.stops.rest()
        return Stop(self.role, reason, at_s, rest, error)
