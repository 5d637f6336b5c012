"""Baselines: transformers' `generate` with PEFT's adapters, as most demos use them."""

from __future__ import annotations

import time
from typing import Any

import torch

from models.backends.local import load_trio_encoders
from models.bench.prompts import prompts
from models.bench.subprocess_runner import Way, serve
from models.trios import find_trio
from models.weights.load import load_peft


class Clock:
    """A streamer that records the time of the first token; the first `put` is the prompt."""

    def __init__(self) -> None:
        self._puts = 0
        self.first = 0.0

    def put(self, ids: object) -> None:
        """Note the time of the second call, which brings the first new token."""
        self._puts += 1
        if self._puts == 2:
            self.first = time.monotonic()

    def end(self) -> None:
        """Do nothing; transformers calls it."""


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    trio = find_trio(setup["trio"])
    encoders = load_trio_encoders(trio, lambda progress: None)
    model = load_peft(trio.variants, trio.precision)
    names = [str(n) for n, v in enumerate([v for v in trio.variants if v.weights.adapter])]
    adapters = [names.pop(0) if v.weights.adapter else "__base__" for v in trio.variants]

    def ids_of(turn: int) -> list[tuple[int, ...]]:
        (prompt,) = prompts(1, turn=turn)
        return [encoders[v.role].encode(prompt, "own").ids for v in trio.variants]

    def generate(rows: list[tuple[int, ...]], new_tokens: int, **more: Any) -> float:
        """Generate, and return the time at which the first token came."""
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        clock = Clock()
        model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            streamer=clock,
            **more,
        )
        return clock.first

    def alone(adapter: str, ids: tuple[int, ...], new_tokens: int) -> float:
        if adapter == "__base__":
            with model.disable_adapter():
                return generate([ids], new_tokens)
        model.set_adapter(adapter)
        return generate([ids], new_tokens)

    def in_turn(new_tokens: int, turn: int = 0) -> dict[str, Any]:
        began = time.monotonic()
        rows = ids_of(turn)
        firsts = [alone(a, ids, new_tokens) for a, ids in zip(adapters, rows, strict=True)]
        seconds = time.monotonic() - began
        tokens = new_tokens * len(rows)
        return {"tokens": tokens, "seconds": seconds, "first_token_s": firsts[0] - began}

    def mixed(new_tokens: int, turn: int = 0) -> dict[str, Any]:
        began = time.monotonic()
        rows = ids_of(turn)
        first = generate(rows, new_tokens, adapter_names=adapters)
        seconds = time.monotonic() - began
        tokens = new_tokens * len(rows)
        return {"tokens": tokens, "seconds": seconds, "first_token_s": first - began}

    in_turn(2)
    return {}, {"B0": in_turn, "B2": mixed}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(_prepare)
