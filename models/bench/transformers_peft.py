"""Baselines: transformers' `generate` with PEFT's adapters, as most demos use them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from safetensors import SafetensorError

from models.backends.encoding import load_trio_encoders
from models.bench.prompts import prompts
from models.bench.subprocess_runner import Way, serve
from models.errors import WeightsError, first_line
from models.trios import find_trio
from models.types import Pin, Precision, Variant
from models.weights.fetch import base_folder
from models.weights.load import adapter_folder, adapters_of, device_and_dtypes, load_base
from models.weights.quiet import quiet_libraries


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


def _load_peft(variants: Sequence[Variant], precision: Precision) -> Any:
    """Return a base with its variants' adapters as a PEFT model, whose adapters are "0", "1", ….

    Raises:
        WeightsError: a file is missing or damaged, or an adapter does not fit the base.
    """
    quiet_libraries()
    pin = variants[0].weights.base
    device, (dtype, *_) = device_and_dtypes()
    model = load_base(base_folder(pin, lambda progress: None), precision, device, dtype)
    return _with_peft(model, adapters_of(variants))


def _with_peft(model: Any, adapters: Sequence[Pin]) -> Any:
    """Return the model with its adapters as a PEFT model; the model itself if there are none."""
    from peft import PeftModel

    wrapped = model
    for n, adapter in enumerate(adapters):
        folder = adapter_folder(adapter)
        try:
            if n == 0:
                wrapped = PeftModel.from_pretrained(model, folder, adapter_name="0")
            else:
                wrapped.load_adapter(folder, adapter_name=str(n))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"The adapter in {folder} cannot be loaded: {first_line(error)}"
            ) from error
    return wrapped.eval()


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    trio = find_trio(setup["trio"])
    encoders = load_trio_encoders(trio, lambda progress: None)
    model = _load_peft(trio.variants, trio.precision)
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
