"""python -m playground …: the same functions as the page and Python, printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from rich.console import Console

import models
from models import (
    DEFAULT,
    FORMATS,
    FORMS,
    Layout,
    ModelError,
    Sampling,
    find_trio,
    read_trios,
)
from playground import jobs, ledger, terminal
from playground.compare import begin, finish, follow, prompt_of
from playground.terminal import opened, print_json

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
    jobs.add_to(add)
    return parser


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
    with closing(opened(trio)) as backend:
        stops = not flags.no_stop_texts
        answers = begin(backend, prompt, flags.format, stops)
        stream = backend.stream(prompt, sampling, flags.format, stops)
        with closing(follow(answers, stream)) as states:
            if not flags.json:
                terminal.show(trio, states, Console())
                return
            answers = finish(states)
        print_json(ledger.record(trio.name, prompt, flags.format, sampling, answers))


def _prompt(flags: argparse.Namespace) -> None:
    prompt, trio = _given(flags), find_trio(flags.trio)
    sent = models.preview(trio, prompt, flags.format, not flags.no_stop_texts)
    if flags.json:
        print_json({role: ledger.sent_record(one) for role, one in sent.items()})
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
