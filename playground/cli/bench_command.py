"""The command that measures speed and memory: bench."""

from __future__ import annotations

import argparse

import models
from models import PromptError, find_trio
from playground.cli import render
from playground.cli.flags import add_trio_flags, positive
from playground.cli.progress import Bar
from playground.cli.terminal import Terminal, print_json


def _bench_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="rough figures in a minute or two")
    parser.add_argument(
        "--optimisations", action="store_true", help="measure what each of the engine's gains"
    )
    parser.add_argument("--rounds", type=positive, help="answers of each way (9; quick: 1)")
    parser.add_argument("--new-tokens", type=positive, help="of each answer (128; quick: 12)")
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="a Python that has llama-cpp-python")
    parser.add_argument("--vllm", metavar="PYTHON", help="a Python that has vLLM")
    add_trio_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")


def _bench(flags: argparse.Namespace) -> None:
    """Measure speed and memory here, all in one interleaved run."""
    trio, pythons = find_trio(flags.trio), {"llama_cpp": flags.llama_cpp, "vllm": flags.vllm}
    given = {name: python for name, python in pythons.items() if python}
    if flags.optimisations and (flags.quick or given):
        raise PromptError("--optimisations measures the engine alone, and not quickly.")
    with Bar() as bar:
        on_progress = bar.callback_for(bar.add_task("Measuring", total=None))
        lengths = {"rounds": flags.rounds, "new_tokens": flags.new_tokens}
        if flags.optimisations:
            result = models.measure_optimisations(trio, on_progress, **lengths)
        else:
            result = models.run_bench(trio, flags.quick, on_progress, pythons=given, **lengths)
    if flags.json:
        print_json(result)
    elif flags.optimisations:
        render.show_optimisations(result, Terminal())
    else:
        render.show_bench(result, Terminal())


COMMANDS = {"bench": (_bench, _bench_flags)}
"""Functions of each command: one that runs it (its docstring is the help), one for its flags."""
