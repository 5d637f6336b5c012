"""Measures what each optimisation of the engine gains: all of them against all but one."""

from __future__ import annotations

import statistics
import sys
from contextlib import closing
from dataclasses import fields
from typing import Any

from models.bench.prompts import TURNS
from models.bench.run import machine
from models.bench.subprocess_runner import Child
from models.engine.options import EngineOptions
from models.errors import WeightsError
from models.model_info import Progress, ProgressCallback
from models.types import Trio

WAYS = ("engine", "nine rows")
"""Ways to answer that an optimisation is measured in, named as in `models.bench.run`."""
OTHER_WAYS = {"prefix_cache": ("same beginning",)}
"""The ways that show an optimisation, where `WAYS` do not."""


def measure_optimisations(
    trio: Trio,
    on_progress: ProgressCallback,
    rounds: int | None = None,
    new_tokens: int | None = None,
) -> dict[str, Any]:
    """Measure how long an answer takes with and without each optimisation.

    Two processes take turns, round by round; one of them leaves the optimisation out.

    Args:
        trio: a shipped trio whose variants share a base.
        on_progress: called with the current step and the share of the run that is done.
        rounds: number of answers of each process besides the warm-up; None means 9.
        new_tokens: length of each answer; None means 128.

    Returns:
        {"machine", "settings", "rows": [{"name", "way", "seconds" and "seconds_without": medians,
        "ratio": median over the rounds of the seconds without it by those with it}]}.

    Raises:
        WeightsError: the engine cannot load the trio.
    """
    rounds, new_tokens = rounds or TURNS, new_tokens or 128
    names = [option.name for option in fields(EngineOptions)]
    setup = {"trio": trio.name}
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    with closing(Child("triptych", sys.executable, setup)) as engine:
        for n, name in enumerate(names):
            on_progress(Progress(f"Without {name}", n / len(names)))
            with closing(Child("triptych", sys.executable, {**setup, "without": [name]})) as other:
                try:
                    facts = facts or engine.ready()
                    other.ready()
                except RuntimeError as error:
                    raise WeightsError(f"{trio.name} cannot be measured: {error}") from error
                for way in OTHER_WAYS.get(name, WAYS):
                    compared = _compare(way, engine, other, rounds, new_tokens)
                    rows.append({"name": name, "way": way, **compared})
    return {
        "machine": {**machine(), "device": facts["device"]},
        "settings": {"trio": trio.name, "new_tokens": new_tokens, "rounds": rounds},
        "rows": rows,
    }


def _compare(
    way: str, engine: Child, other: Child, rounds: int, new_tokens: int
) -> dict[str, float]:
    seconds: dict[Child, list[float]] = {engine: [], other: []}
    for number in range(rounds + 1):
        for child in (engine, other) if number % 2 else (other, engine):
            child.run(way, new_tokens=2)  # wakes a process that has slept while the other ran
            result = child.run(way, new_tokens=new_tokens, turn=max(0, number - 1) % TURNS)
            if number:  # round 0 warms up
                seconds[child].append(result["seconds"])
    pairs = zip(seconds[engine], seconds[other], strict=True)
    return {
        "seconds": statistics.median(seconds[engine]),
        "seconds_without": statistics.median(seconds[other]),
        "ratio": statistics.median(without / with_option for with_option, without in pairs),
    }
