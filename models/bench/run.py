"""What the trio costs here, beside what people would use instead. Importing this loads no torch.

Each way to answer is a process of its own, loaded once; the ways take turns round by round, so that
a machine whose speed drifts favours none of them. All have the same prompts, another in each round,
and the same lengths: no token ends a text.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.bench.prompts import TURNS
from models.bench.report import limit, ratios, row
from models.bench.subprocess_runner import Child
from models.errors import WeightsError
from models.model_info import Progress, ProgressCallback
from models.types import Trio

WAYS = {
    "engine": ("triptych", "this engine, the three variants in one batch"),
    "one alone": ("triptych", "this engine, the base alone"),
    "two people": ("triptych", "this engine, two people's trios at once"),
    "four people": ("triptych", "this engine, four people's trios at once"),
    "nine rows": ("triptych", "this engine, three forms × three variants at once"),
    "sampled": ("triptych", "this engine, temperature 0.7, top-p 0.9"),
    "no guesses": ("triptych", "this engine, one token a row and step"),
    "nine, no guesses": ("triptych", "nine rows, one token a row and step"),
    "exact head": ("triptych", "this engine without the screened head"),
    "plain loop": ("triptych", "the reference: padded batch, transformers' cache, exact head"),
    "B0": (
        "transformers_peft",
        "transformers' generate three times in turn, PEFT switching adapters",
    ),
    "B2": ("transformers_peft", "transformers' generate on a batch of three, PEFT's mixed batch"),
    "B5": ("llama_cpp", "llama.cpp on the same GGUF, the base three times in turn"),
    "B6": ("vllm", "vLLM, bf16 base and two LoRA modules, three requests at once"),
}
QUICK = ("engine", "no guesses", "one alone", "two people", "nine rows", "B0", "B2", "B5")
PACKAGES = ("llama_cpp", "vllm")
"""Packages that a baseline needs; the module that measures it has the same name."""


def run_bench(
    trio: Trio,
    quick: bool,
    on_progress: ProgressCallback,
    rounds: int | None = None,
    new_tokens: int | None = None,
    pythons: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Measure the trio and its baselines in one interleaved run.

    Args:
        trio: one of the shipped file whose variants share a base.
        quick: only the ways that load fast, and no round to warm up: rough figures in a minute, or
            two where the processor has no product of 4 bits.
        on_progress: called with the step under way and the share of the run that is done.
        rounds: how often each way answers, 9 or, if quick, once; a first round that warms up is
            not counted.
        new_tokens: of each answer, 128 or, if quick, 12.
        pythons: the interpreter of a baseline that has one of its own, by its package's name.

    Returns:
        {"machine": …, "rows": [{"name", "what", "tokens_per_s": aggregate over the variants,
        "first_token_s": of the first column, "memory_bytes": held by the way's process, …} or
        {"name", "what", "skipped": why}], "ratios": {…}, "step": …, "agreement": …}.
    """
    rounds = rounds or (1 if quick else TURNS)
    new_tokens = new_tokens or (12 if quick else 128)
    with ExitStack() as held:
        children, skipped, engine = _load(trio, quick, on_progress, pythons or {}, held)
        measured: dict[str, list[dict[str, Any]]] = {
            name: [] for name, (module, _) in WAYS.items() if module in children
            and (not quick or name in QUICK)
        }  # fmt: skip
        for number in range(int(quick), rounds + 1):
            for step, name in enumerate(measured):
                done = (number - quick + step / len(measured)) / (rounds + 1 - quick)
                on_progress(Progress(f"{name}, round {number} of {rounds}", 0.3 + 0.6 * done))
                child = children[WAYS[name][0]]
                if not quick:  # wake a process that has slept through the others
                    child.run(name, new_tokens=2)
                result = child.run(name, new_tokens=new_tokens, turn=max(0, number - 1) % TURNS)
                if number:  # round 0 warms up; in a quick run, a few tokens have done so
                    measured[name].append(result)
        own = children["triptych"]
        on_progress(Progress("Where a step's time goes", 0.92))
        step_profile = own.run("profile")
        more = {} if quick else _more(own, on_progress)
    rows = [row(name, WAYS[name][1], rounds) for name, rounds in measured.items()]
    rows += [
        {"name": name, "what": what, "skipped": skipped[module]}
        for name, (module, what) in WAYS.items()
        if module in skipped
    ]
    return {
        "machine": {**machine(), "device": engine["device"]},
        "settings": {"trio": trio.name, "new_tokens": new_tokens, "rounds": rounds},
        "memory": engine["memory"],
        "rows": rows,
        "ratios": ratios({one["name"]: one for one in rows if "skipped" not in one}),
        "step": {**limit(engine, rows), **step_profile},
        **more,
    }


def _load(
    trio: Trio,
    quick: bool,
    on_progress: ProgressCallback,
    pythons: dict[str, str],
    held: ExitStack,
) -> tuple[dict[str, Child], dict[str, str], dict[str, Any]]:
    """Start every way's process; returns those that can be used, why not the others, and ours."""

    def start(module: str, **setup: Any) -> Child:
        python = pythons.get(module, sys.executable)
        child = Child(module, python, {"trio": trio.name, **setup})
        held.callback(child.close)
        return child

    on_progress(Progress("Loading the engine", 0.0))
    children, skipped = {name: start(name) for name in ("triptych", "transformers_peft")}, {}
    try:
        engine = children["triptych"].ready()
        on_progress(Progress("Loading the baselines", 0.15))
        children["transformers_peft"].ready()
    except RuntimeError as error:
        raise WeightsError(f"{trio.name} cannot be measured: {error}") from error
    ids = {"ids": engine["ids"]}
    for package in PACKAGES:
        if package not in pythons and importlib.util.find_spec(package) is None:
            skipped[package] = f"{package} is not installed here; see --{package.replace('_', '-')}"
        elif quick and package == "vllm":
            skipped[package] = "left out of a quick run: its server takes a minute to start"
        else:
            on_progress(Progress(f"Loading {package}", 0.2))
            try:
                child = start(package, **ids, **_files(package, trio, held))
                child.ready()
                children[package] = child
            except (OSError, RuntimeError, ValueError) as error:
                skipped[package] = str(error)
    return children, skipped, engine


def _files(package: str, trio: Trio, held: ExitStack) -> dict[str, Any]:
    """Return where a baseline finds the same weights.

    Raises:
        ValueError: they are not to be had in the form that it needs.
    """
    from models.weights.fetch import base_folder, joined_gguf

    base = trio.variants[0].weights.base
    if package == "llama_cpp":
        folder = held.enter_context(tempfile.TemporaryDirectory())
        return {"gguf": str(joined_gguf(base, Path(folder)))}
    adapters = {v.role: v.weights.adapter.source for v in trio.variants if v.weights.adapter}
    return {
        "base": str(base_folder(base, lambda progress: None)),
        "adapters": adapters,
        "cuda": Path("/proc/driver/nvidia/version").exists(),
    }


def _more(own: Child, on_progress: ProgressCallback) -> dict[str, Any]:
    """What the longer run measures besides: prompts of other lengths, and agreement."""
    first: dict[str, dict[str, float]] = {}
    for length in (32, 256, 1024):
        on_progress(Progress(f"First tokens after {length}", 0.94))
        times: dict[str, list[float]] = {"engine": [], "one alone": []}
        for _ in range(5):
            for name, seconds in times.items():
                one = own.run(name, new_tokens=2, prompt_tokens=length)
                seconds.append(one["first_token_s"])
        first[str(length)] = {name: statistics.median(all) for name, all in times.items()}
    on_progress(Progress("Labels", 0.96))
    labels: dict[str, dict[str, float]] = {}
    for count in (2, 10):
        times = {"labels": [], "labels alone": []}
        for _ in range(3):
            for name, seconds in times.items():
                seconds.append(own.run(name, count=8, labels=count)["seconds"])
        shared, alone = (statistics.median(seconds) for seconds in times.values())
        labels[str(count)] = {"shared_s": shared, "alone_s": alone, "ratio": alone / shared}
    on_progress(Progress("Agreement with the reference", 0.97))
    return {
        "first_token_s": first,
        "labels": labels,
        "read_s": {
            str(count): statistics.median(
                own.run("read", tokens=count, turn=turn)["seconds"] for turn in range(5)
            )
            for count in (100, 1000)
        },
        "agreement": own.run("agreement", new_tokens=64, count=8),
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor and versions."""
    names = ("torch", "transformers", "bitsandbytes", "peft", "llama-cpp-python", "vllm")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: found for name in names if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
