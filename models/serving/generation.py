"""One row while it runs: ids become text, and the rules that end an answer apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.engine.interface import SampledToken, SequenceEngine, SequenceSpec
from models.events import Event, Ranked, Stop, Token
from models.text.detokenizer import StopText
from models.types import Role, Sampling, StopReason


class TokenDecoder(Protocol):
    """Ids → text as it grows."""

    def add(self, id: int) -> str:
        """Return what this token adds."""
        ...

    def rest(self) -> str:
        """Return what is left at the end."""
        ...


@dataclass(slots=True, eq=False)
class Generation:
    """One variant's answer, from asking to its end."""

    role: Role
    engine: SequenceEngine[Any]
    row: SequenceSpec
    sampling: Sampling
    detokenizer: TokenDecoder
    stops: StopText
    left: int
    """Tokens that it may still give."""
    eos_ids: frozenset[int]
    running: Any = None
    """What the engine holds of it; None before it begins."""
    prompt_is_in: bool = False
    reason: StopReason | None = None
    said: int = 0
    """Tokens that it has given."""
    labels: Sequence[Sequence[int]] = ()
    """Ids of what is ranked as following the prompt, before the first token is given."""

    def rank(self) -> Ranked:
        """Tell how likely each label is; the prompt has just come in."""
        return Ranked(self.role, tuple(self.engine.rank(self.running, self.labels)))

    def take(self, picked: SampledToken, at_s: float) -> Iterator[Event]:
        """Turn one token into events; sets `reason` when it was the last."""
        self.left -= 1
        self.said += 1
        text = ""
        if picked.id in self.eos_ids:
            self.reason = "eos"
        else:
            text, hit = self.stops.add(self.detokenizer.add(picked.id))
            self.reason = "stop" if hit else "length" if self.left == 0 else None
        yield Token(self.role, picked.id, text, picked.logprob, at_s)
        if self.reason:
            yield self.end(self.reason, at_s)

    def end(self, reason: StopReason, at_s: float, error: str | None = None) -> Stop:
        """End the answer; what was held back belongs to it, unless a stop text cut it."""
        self.reason = reason
        rest = ""
        if reason != "stop":
            rest, _ = self.stops.add(self.detokenizer.rest())
            rest += self.stops.rest()
        return Stop(self.role, reason, at_s, rest, error)
