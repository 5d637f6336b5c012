"""A scripted backend: no weights, the same events. For tests, screenshots and demos."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from models.errors import PromptError
from models.prompt import stop_text, to_text
from models.turns import Turns
from models.types import (
    Events,
    Format,
    Loaded,
    Memory,
    Piece,
    Prompt,
    Role,
    Sampling,
    Sent,
    Stop,
    StopReason,
    Token,
    Trio,
)


class FakeBackend:
    """Answers every prompt with its script, one token a step for each variant."""

    def __init__(
        self, trio: Trio, script: Mapping[Role, Sequence[str]], delay_s: float = 0.0
    ) -> None:
        """Take the tokens that each variant answers with; after the last it ends by itself."""
        self.trio = trio
        self.delay_s = delay_s
        self.running = 0
        """Streams that are open now; tests see here that closing frees."""
        self._script = script
        self._turns = Turns()

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, Sent]:
        """Send the flat text; each word is a token."""
        words = to_text(prompt).split(" ")
        if len(words) >= self.trio.max_context:
            raise PromptError(
                f"The prompt is {len(words)} tokens, and the context of {self.trio.name} is "
                f"{self.trio.max_context}. Shorten it."
            )
        pieces = [Piece(2, "<bos>", True)]
        pieces += [Piece(10 + n, f" {word}" if n else word, False) for n, word in enumerate(words)]
        text = "".join(piece.text for piece in pieces)
        stop = stop_text(prompt) if stop_texts else None
        one = Sent(text, tuple(pieces), (stop,) if stop else ())
        return {variant.role: one for variant in self.trio.variants}

    def loaded(self) -> dict[Role, Loaded]:
        """Name weights that are not there."""
        return {
            v.role: Loaded("scripted", None, self.trio.precision, "none", "none", f"fake-{v.role}")
            for v in self.trio.variants
        }

    def memory(self) -> Memory:
        """Hold nothing."""
        return Memory(0, 0, 0)

    def close(self) -> None:
        """Have nothing to free."""

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        format: Format = "own",
        stop_texts: bool = True,
        deadline_s: float | None = None,
    ) -> Events:
        """Yield the script's tokens in step, and one Stop for each variant."""
        self.sent(prompt, format, stop_texts)
        ticket = object()
        self.running += 1
        try:
            stopped = yield from self._turns.wait(ticket, [v.role for v in self.trio.variants])
            yield from self._answer(sampling, deadline_s, stopped)
        finally:
            self.running -= 1
            self._turns.leave(ticket)

    def _answer(self, sampling: Sampling, deadline_s: float | None, stopped: set[Role]) -> Events:
        start = time.monotonic()
        running = [variant.role for variant in self.trio.variants]
        step = 0
        while running:
            time.sleep(self.delay_s)
            at_s = time.monotonic() - start
            for role in tuple(running):
                reason = self._reason(role, step, sampling)
                if deadline_s is not None and at_s > deadline_s:
                    reason = "deadline"
                if role in stopped:
                    reason = "cancelled"
                if reason is None:
                    token = Token(role, step, self._script[role][step], -1.0, at_s)
                    stopped |= set((yield token) or ())
                else:
                    running.remove(role)
                    stopped |= set((yield Stop(role, reason, at_s)) or ())
            step += 1

    def _reason(self, role: Role, step: int, sampling: Sampling) -> StopReason | None:
        if step >= len(self._script[role]):
            return "eos"
        return "length" if step >= sampling.max_new_tokens else None
