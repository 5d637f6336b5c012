"""One answer while it is generated: token ids become text, and the rules that end it apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.engine.interface import SampledToken, SequenceEngine, SequenceSpec
from models.events import Event, Ranked, Stop, Token
from models.text.detokenizer import StopText
from models.types import Role, Sampling, StopReason


class TokenDecoder(Protocol):
    """Token ids → text as it grows."""

    def add(self, id: int) -> str:
        """Return the text that this token adds."""
        ...

    def rest(self) -> str:
        """Return the text that is left at the end."""
        ...


@dataclass(slots=True, eq=False)
class Generation:
    """One variant's answer, from the request to its end."""

    role: Role
    engine: SequenceEngine[Any]
    spec: SequenceSpec
    sampling: Sampling
    detokenizer: TokenDecoder
    stops: StopText
    remaining: int
    """Tokens that it may still give."""
    eos_ids: frozenset[int]
    sequence: Any = None
    """The engine's record of it; None before it is added, and after it has ended."""
    prefilled: bool = False
    reason: StopReason | None = None
    """Why it ended; None while it runs."""
    new_tokens: int = 0
    labels: Sequence[Sequence[int]] = ()
    """Token ids of each label whose log-probability after the prompt is asked for."""

    def rank_labels(self) -> Ranked:
        """Return the log-probability of each label; the prompt was just prefilled."""
        logprobs = self.engine.score_continuations(self.sequence, self.labels)
        return Ranked(self.role, tuple(logprobs))

    def accept(self, token: SampledToken, at_s: float) -> Iterator[Event]:
        """Yield the events of one new token; sets `reason` if it is the last."""
        self.remaining -= 1
        self.new_tokens += 1
        text = ""
        if token.id in self.eos_ids:
            self.reason = "eos"
        else:
            text, hit = self.stops.add(self.detokenizer.add(token.id))
            self.reason = "stop" if hit else "length" if self.remaining == 0 else None
        yield Token(self.role, token.id, text, token.logprob, at_s)
        if self.reason:
            yield self.end(self.reason, at_s)

    def end(self, reason: StopReason, at_s: float, error: str | None = None) -> Stop:
        """End the answer; withheld text belongs to it, unless a stop text ended it."""
        self.reason = reason
        rest = ""
        if reason != "stop":
            rest, _ = self.stops.add(self.detokenizer.rest())
            rest += self.stops.rest()
        return Stop(self.role, reason, at_s, rest, error)
