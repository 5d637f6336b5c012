"""What the trio costs here: speed against `generate`, memory, and the time to load.

All figures come from one run in one process, with the ways to answer taken in turn, so that a
machine whose speed drifts does not favour one of them. Importing this loads no torch.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.types import Prompt, Sampling, Trio

if TYPE_CHECKING:
    from models.engine import Engine, Row

PROMPT = Prompt("Tell me a joke")
NEW_TOKENS = 48
Told = Callable[[str, float], None]


def bench(trio: Trio, quick: bool, told: Told) -> dict[str, Any]:
    """Measure the trio.

    Args:
        trio: one whose variants share a base.
        quick: three rounds instead of ten.
        told: called with the step and the share done.

    Returns:
        {"machine": …, "rows": [{"name": "engine" | "B0", "tokens_per_s": aggregate over the
        variants, "first_token_s": of the first column, "memory_bytes": the most that the process
        has held, …}]}. "engine" is one batch; "B0" is transformers' `generate` on the same stacked
        weights, one variant after the other.
    """
    from models.engine import Row
    from models.local import LocalBackend

    told("Loading", 0.0)
    began = time.monotonic()
    backend = LocalBackend(trio, lambda progress: told(progress.step, 0.3 * progress.done))
    load_s = time.monotonic() - began
    group = backend.groups[0]
    sent = backend.sent(PROMPT)
    rows = [
        Row(sent[variant.role].ids, entry)
        for variant, entry in zip(group.variants, group.rows, strict=True)
    ]
    ways = {"engine": _engine, "B0": _generate}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    rounds = 3 if quick else 10
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            told(f"{name}, round {round_number}", 0.3 + 0.7 * round_number / (rounds + 1))
            measured = way(group.engine, rows)
            if round_number:  # the first round warms up
                times[name].append(measured)
    memory = backend.memory()
    held = {
        "base_bytes": memory.base_bytes,
        "adapter_bytes": memory.adapter_bytes,
        "kv_bytes_per_token": memory.kv_bytes_per_token,
    }
    return {
        "machine": machine(),
        "load_s": load_s,
        "memory": held,
        "rows": [{**_row(name, times[name]), **held} for name in ways],
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, device, threads, versions."""
    import torch

    names = ("torch", "transformers", "bitsandbytes", "peft")
    cuda = torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _engine(engine: Engine, rows: list[Row]) -> tuple[float, float]:
    """All rows as one batch; returns seconds to the first tokens and in all."""
    began = time.monotonic()
    steps = engine.steps(rows, Sampling(NEW_TOKENS))
    next(steps)
    first_s = time.monotonic() - began
    for _ in range(NEW_TOKENS - 1):
        next(steps)
    steps.close()
    return first_s, time.monotonic() - began


def _generate(engine: Engine, rows: list[Row]) -> tuple[float, float]:
    """One row after the other by `generate`; the first token is the first row's."""
    import torch

    began, first_s = time.monotonic(), 0.0
    for row in rows:
        for layer in engine.layers:
            layer.select(torch.tensor([row.adapter], device=engine.model.device))
        ids = torch.tensor([row.ids], device=engine.model.device)
        clock = _Clock()
        engine.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            streamer=clock,
        )
        first_s = first_s or clock.first - began
    return first_s, time.monotonic() - began


class _Clock:
    """A streamer that keeps the time of the first token; the first `put` is the prompt's."""

    def __init__(self) -> None:
        self._puts = 0
        self.first = 0.0

    def put(self, ids: object) -> None:
        self._puts += 1
        if self._puts == 2:
            self.first = time.monotonic()

    def end(self) -> None:
        pass


def _row(name: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    seconds = statistics.median(total for _, total in times)
    return {
        "name": name,
        "tokens_per_s": 3 * NEW_TOKENS / seconds,
        "first_token_s": statistics.median(first for first, _ in times),
        "seconds": seconds,
        "rounds": len(times),
        "memory_bytes": resident_bytes(),
    }


def resident_bytes() -> int:
    """Return the most memory that this process has held so far."""
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if platform.system() == "Darwin" else 1024)
