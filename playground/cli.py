"""python -m playground …: the same functions as the page and Python, printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import models
from models import (
    DEFAULT,
    FORMATS,
    FORMS,
    ROLES,
    Layout,
    ModelError,
    Sampling,
    find_trio,
    read_trios,
)
from playground import ledger, terminal
from playground.compare import begin, finish, follow, prompt_of
from playground.tasks import TASKS, Task, shipped_tasks

Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 for what a person can mend, 130 for Ctrl-C."""
    flags = _parser().parse_args(arguments)
    try:
        flags.command(flags)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m playground", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=command)
        return sub

    one = add("compare", _compare, "Send one prompt to all three variants.")
    _prompt_flags(one)
    _sampling_flags(one)
    one.add_argument("--json", action="store_true", help="print one object instead of blocks")
    one = add("prompt", _prompt, "Show what each variant would be sent; loads no weights.")
    _prompt_flags(one)
    one.add_argument("--json", action="store_true", help="print one object")
    add("trios", _trios, "List the trios of the trio file.")
    one = add("tune", _tune, "Train an adapter by a recipe.")
    one.add_argument("recipe", help="a TOML file, or the name of a shipped recipe")
    one.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    one.add_argument("--out", type=Path, required=True, help="folder for adapter and checkpoints")
    one = add("measure", _measure, "Measure an adapter as its model card reports it.")
    one.add_argument("what", choices=["intents", "instructions"])
    one.add_argument("--data", type=Path, help="folder of the data sets, for intents")
    one.add_argument("--limit", type=int, default=300, help="utterances to ask, for intents")
    one.add_argument("--trio", default=DEFAULT)
    one.add_argument("--json", action="store_true", help="print every answer too")
    one = add("evaluate", _evaluate, "Measure the variants on labelled tasks.")
    one.add_argument("--tasks", type=_list, help=f"of: {', '.join(TASKS)}, or --data's (all)")
    one.add_argument("--data", type=Path, help="folder of public sets, asked instead")
    one.add_argument("--set", type=Path, metavar="FILE", help="a set of one's own, CSV or .jsonl")
    one.add_argument("--input-column", default="input", help="of --set (input)")
    one.add_argument("--label-column", default="label", help="of --set (label)")
    one.add_argument("--labels", type=_list, default=(), help="of --set (those of its rows)")
    one.add_argument("--score", choices=["label", "exact", "text"], default="label")
    one.add_argument("--instruction", action="append", default=[], help="a wording for --set")
    one.add_argument("--forms", type=_list, default=FORMS, help="prompt forms (all)")
    one.add_argument("--variants", type=_list, default=ROLES, help="base, task, instruct (all)")
    one.add_argument("--limit", type=int, default=0, help="items of each task (all)")
    one.add_argument("--wordings", type=int, default=1, help="wordings that each item is asked in")
    one.add_argument("--shots", type=int, default=4, help="demonstrations of few-shot prompts (4)")
    one.add_argument("--out", type=Path, help="file to save in as it goes, and to go on from")
    one.add_argument("--trio", default=DEFAULT)
    one.add_argument("--json", action="store_true", help="print one object instead of a table")
    one = add("bench", _bench, "Measure speed and memory here, all in one interleaved run.")
    one.add_argument("--quick", action="store_true", help="end within a minute")
    one.add_argument("--rounds", type=_positive, default=9, help="answers of each way (9)")
    one.add_argument("--llama-cpp", metavar="PYTHON", help="a Python that has llama-cpp-python")
    one.add_argument("--vllm", metavar="PYTHON", help="a Python that has vLLM")
    one.add_argument("--trio", default=DEFAULT)
    one.add_argument("--json", action="store_true", help="print one object instead of a table")
    return parser


def _positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _list(text: str) -> list[str]:
    """Read names between commas."""
    return [name.strip() for name in text.split(",")]


def _prompt_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="the instruction; with another form, the input")
    parser.add_argument("--form", choices=FORMS, help="prompt form (instruction)")
    parser.add_argument("--instruction", default="", help="an imperative above the input")
    parser.add_argument(
        "--example", action="append", default=[], metavar="'IN => OUT'", help="a demonstration"
    )
    parser.add_argument("--input-label", help="label of the input in the layout (Input)")
    parser.add_argument("--cue", help="the cue that ends the layout (Output)")
    parser.add_argument("--format", choices=FORMATS, default="own", help="own format, same bytes")
    parser.add_argument("--no-stop-texts", action="store_true", help="let text variants run on")
    parser.add_argument("--trio", default=DEFAULT, help=f"trio of the trio file ({DEFAULT})")


def _sampling_flags(parser: argparse.ArgumentParser) -> None:
    usual = Sampling()
    parser.add_argument("--max-new-tokens", type=int, default=usual.max_new_tokens)
    parser.add_argument("--temperature", type=float, default=usual.temperature, help="0 is greedy")
    parser.add_argument("--top-p", type=float, default=usual.top_p)
    parser.add_argument("--top-k", type=int, default=usual.top_k, help="0 keeps all")
    parser.add_argument("--seed", type=int, default=usual.seed)


def _given(flags: argparse.Namespace) -> models.Prompt:
    labels = {"input_label": flags.input_label, "cue": flags.cue}
    given = {name: label for name, label in labels.items() if label is not None}
    layout = Layout(**given) if given else None
    return prompt_of(flags.text, flags.form, flags.instruction, flags.example, layout)


def _compare(flags: argparse.Namespace) -> None:
    prompt = _given(flags)
    sampling = Sampling(
        flags.max_new_tokens, flags.temperature, flags.top_p, flags.top_k, flags.seed
    )
    trio = find_trio(flags.trio)
    with closing(_open(trio)) as backend:
        stops = not flags.no_stop_texts
        answers = begin(backend, prompt, flags.format, stops)
        stream = backend.stream(prompt, sampling, flags.format, stops)
        with closing(follow(answers, stream)) as states:
            if not flags.json:
                terminal.show(trio, states, Console())
                return
            answers = finish(states)
        _print_json(ledger.record(trio.name, prompt, flags.format, sampling, answers))


def _prompt(flags: argparse.Namespace) -> None:
    prompt, trio = _given(flags), find_trio(flags.trio)
    sent = models.preview(trio, prompt, flags.format, not flags.no_stop_texts)
    if flags.json:
        _print_json({role: ledger.sent_record(one) for role, one in sent.items()})
        return
    for role, one in sent.items():
        print(f"── {role} · {len(one.ids)} tokens")
        print(terminal.printable(one.text))
        for text in one.stop_texts:
            print(f"   ends before {text!r}")
        for warning in one.warnings:
            print(f"   warning: {warning}")


def _trios(flags: argparse.Namespace) -> None:
    for trio in read_trios().values():
        print(f"{trio.name}: {trio.title}, {trio.precision}")
        for variant in trio.variants:
            source = variant.source
            adapter = f" + {source.adapter}" if source.adapter else ""
            print(
                f"  {variant.role:9}{variant.name}, reads {variant.reads}: {source.base}{adapter}"
            )


def _tune(flags: argparse.Namespace) -> None:
    steps = models.tune(flags.recipe, flags.data, flags.out)
    with _bar() as bar:
        task = bar.add_task("Reading the data", total=None)
        for step in steps:
            line = f"loss {step.loss:.3f} · {step.tokens / step.seconds:.0f} tok/s"
            bar.update(task, description=line, total=step.steps, completed=step.step)
    print(f"Written to {flags.out}.")


def _measure(flags: argparse.Namespace) -> None:
    from playground.measure import instructions, intents

    with closing(_open(find_trio(flags.trio))) as backend, _bar() as bar:
        task = bar.add_task(f"Measuring {flags.what}", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if flags.what == "intents":
            result = intents(backend, flags.data, flags.limit, told)
        else:
            result = instructions(backend, told)
    if not flags.json:
        result.pop("items")
    _print_json(result)


def _evaluate(flags: argparse.Namespace) -> None:
    from playground.evaluate import Plan, evaluate, head_of, named, record

    known = _tasks(flags)
    plan = Plan(
        tasks=named(known, flags.tasks or known, "task"),
        forms=named({form: form for form in FORMS}, flags.forms, "form"),
        variants=named({role: role for role in ROLES}, flags.variants, "variant"),
        limit=flags.limit,
        wordings=flags.wordings,
        shots=flags.shots,
    )
    with closing(_open(find_trio(flags.trio))) as backend, _bar() as bar:
        task = bar.add_task("Asking", total=None)
        for state in evaluate(backend, plan, flags.out):
            bar.update(task, completed=state.done, total=state.total)
        result = record(head_of(backend, plan), state)
    if flags.json:
        _print_json(result)
    else:
        terminal.show_evaluation(state, Console())


def _tasks(flags: argparse.Namespace) -> dict[str, Task]:
    """Return the tasks that may be asked: one's own set, public ones, or the shipped ones."""
    from playground.own import read_own
    from playground.public import public_tasks

    if not flags.set:
        return public_tasks(flags.data) if flags.data else shipped_tasks()
    task, notes = read_own(
        flags.set,
        flags.input_column,
        flags.label_column,
        instructions=flags.instruction,
        score=flags.score,
        labels=flags.labels,
        demonstrations=flags.shots,
    )
    for note in notes:
        print(note, file=sys.stderr)
    return {task.name: task}


def _bench(flags: argparse.Namespace) -> None:
    with _bar() as bar:
        task = bar.add_task("Measuring", total=None)

        def told(step: str, done: float) -> None:
            bar.update(task, description=step, total=1.0, completed=done)

        result = models.bench(
            find_trio(flags.trio),
            flags.quick,
            told,
            rounds=flags.rounds,
            pythons={
                name: python
                for name, python in {"llama_cpp": flags.llama_cpp, "vllm": flags.vllm}.items()
                if python
            },
        )
    if flags.json:
        _print_json(result)
    else:
        terminal.show_bench(result, Console())


def _open(trio: models.Trio) -> models.Backend:
    """Open a trio with a line on how far it has come, on stderr."""
    console = Console(stderr=True)
    with console.status("Loading") as status:
        return models.open_backend(
            trio, lambda progress: status.update(f"{progress.step} · {progress.done:.0%}")
        )


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1))
