"""The benchmark: speed and memory of this engine and of its alternatives on this machine.

The ways to answer of one module run in one child process, which loads once. The ways take turns,
round by round, so that a machine whose speed drifts favours none of them. All get the same
prompts, a different one in each round, and generate texts of the same length: end-of-text tokens
are ignored. Importing this module does not import torch.
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
from models.bench.report import bandwidth_use, ratios, row
from models.bench.subprocess_runner import Child
from models.capabilities import proc_file
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
"""The ways to answer, by name: the module that runs each, and a description."""
QUICK = ("engine", "no guesses", "one alone", "two people", "nine rows", "B0", "B2", "B5")
PACKAGES = ("llama_cpp", "vllm")
"""Baselines that need an optional package; package and module have the same name."""


def run_bench(
    trio: Trio,
    quick: bool,
    on_progress: ProgressCallback,
    rounds: int | None = None,
    new_tokens: int | None = None,
    pythons: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Measure a trio and its baselines in one interleaved run.

    Args:
        trio: a shipped trio whose variants share a base.
        quick: whether to measure only the ways that load fast, without a warm-up round: rough
            figures in a minute, or in two if the processor has no 4-bit matmul kernel.
        on_progress: called with the current step and the share of the run that is done.
        rounds: number of rounds besides the warm-up; None means 9, or 1 if quick.
        new_tokens: length of each answer; None means 128, or 12 if quick.
        pythons: Python interpreters of baselines that need their own, by package.

    Returns:
        {"machine": …, "rows": [{"name", "what", "tokens_per_s": sum over the variants,
        "first_token_s": of the first variant, "memory_bytes": of the way's process, …} or
        {"name", "what", "skipped": reason}], "ratios": {…}, "step": …, "agreement": …}.

    Raises:
        WeightsError: the engine or transformers cannot load the trio.
    """
    rounds = rounds or (1 if quick else TURNS)
    new_tokens = new_tokens or (12 if quick else 128)
    with ExitStack() as resources:
        children, skipped, engine = _load(trio, quick, on_progress, pythons or {}, resources)
        measured = _measure(children, quick, on_progress, rounds, new_tokens)
        own = children["triptych"]
        on_progress(Progress("Where a step's time goes", 0.92))
        step_profile = own.run("profile")
        extra = {} if quick else _measure_extra(own, on_progress)
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
        "ratios": ratios({result["name"]: result for result in rows if "skipped" not in result}),
        "step": {**bandwidth_use(engine, rows), **step_profile},
        **extra,
    }


def _measure(
    children: dict[str, Child],
    quick: bool,
    on_progress: ProgressCallback,
    rounds: int,
    new_tokens: int,
) -> dict[str, list[dict[str, Any]]]:
    """Run the ways in turn, round by round; return the results of each way."""
    measured: dict[str, list[dict[str, Any]]] = {
        name: [] for name, (module, _) in WAYS.items() if module in children
        and (not quick or name in QUICK)
    }  # fmt: skip
    for number in range(int(quick), rounds + 1):
        for step, name in enumerate(measured):
            done = (number - quick + step / len(measured)) / (rounds + 1 - quick)
            on_progress(Progress(f"{name}, round {number} of {rounds}", 0.3 + 0.6 * done))
            child = children[WAYS[name][0]]
            if not quick:  # wake a process that has slept while the others ran
                child.run(name, new_tokens=2)
            result = child.run(name, new_tokens=new_tokens, turn=max(0, number - 1) % TURNS)
            if number:  # round 0 warms up; a quick run has no such round
                measured[name].append(result)
    return measured


def _load(
    trio: Trio,
    quick: bool,
    on_progress: ProgressCallback,
    pythons: dict[str, str],
    resources: ExitStack,
) -> tuple[dict[str, Child], dict[str, str], dict[str, Any]]:
    """Start the processes; return those that run, why others do not, and the engine's facts."""

    def start(module: str, **setup: Any) -> Child:
        python = pythons.get(module, sys.executable)
        child = Child(module, python, {"trio": trio.name, **setup})
        resources.callback(child.close)
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
                child = start(package, **ids, **_weight_files(package, trio, resources))
                child.ready()
                children[package] = child
            except (OSError, RuntimeError, ValueError) as error:
                skipped[package] = str(error)
    return children, skipped, engine


def _weight_files(package: str, trio: Trio, resources: ExitStack) -> dict[str, Any]:
    """Return the paths of the same weights, as part of a baseline's setup.

    Raises:
        ValueError: the weights do not exist in the format that the baseline needs.
    """
    from models.weights.fetch import base_folder, joined_gguf

    base = trio.variants[0].weights.base
    if package == "llama_cpp":
        folder = resources.enter_context(tempfile.TemporaryDirectory())
        return {"gguf": str(joined_gguf(base, Path(folder)))}
    adapters = {v.role: v.weights.adapter.source for v in trio.variants if v.weights.adapter}
    return {
        "base": str(base_folder(base, lambda progress: None)),
        "adapters": adapters,
        "cuda": Path("/proc/driver/nvidia/version").exists(),
    }


def _measure_extra(engine: Child, on_progress: ProgressCallback) -> dict[str, Any]:
    """Measure time to first token, label ranking, scoring, and agreement with the reference."""
    first: dict[str, dict[str, float]] = {}
    for length in (32, 256, 1024):
        on_progress(Progress(f"First tokens after {length}", 0.94))
        times: dict[str, list[float]] = {"engine": [], "one alone": []}
        for _ in range(5):
            for name, seconds in times.items():
                result = engine.run(name, new_tokens=2, prompt_tokens=length)
                seconds.append(result["first_token_s"])
        first[str(length)] = {name: statistics.median(values) for name, values in times.items()}
    on_progress(Progress("Labels", 0.96))
    labels: dict[str, dict[str, float]] = {}
    for count in (2, 10):
        times = {"labels": [], "labels alone": []}
        for _ in range(3):
            for name, seconds in times.items():
                seconds.append(engine.run(name, count=8, labels=count)["seconds"])
        shared, alone = (statistics.median(seconds) for seconds in times.values())
        labels[str(count)] = {"shared_s": shared, "alone_s": alone, "ratio": alone / shared}
    on_progress(Progress("Agreement with the reference", 0.97))
    return {
        "first_token_s": first,
        "labels": labels,
        "read_s": {
            str(count): statistics.median(
                engine.run("read", tokens=count, turn=turn)["seconds"] for turn in range(5)
            )
            for count in (100, 1000)
        },
        "agreement": engine.run("agreement", new_tokens=64, count=8),
    }


def machine() -> dict[str, Any]:
    """Return the processor and package versions, on which the figures depend."""
    names = ("torch", "transformers", "bitsandbytes", "peft", "llama-cpp-python", "vllm")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: package_version for name in names if (package_version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    lines = proc_file("cpuinfo").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
