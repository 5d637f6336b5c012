"""python -m playground …: the same functions as the page and Python, printed."""

from __future__ import annotations

import argparse
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace

from rich.console import Console

import models
from models import (
    DEFAULT,
    FORMATS,
    FORMS,
    ROLES,
    Layout,
    ModelError,
    PromptError,
    Request,
    Role,
    Sampling,
    find_trio,
    read_trios,
)
from playground.cli import commands, render
from playground.cli.render import opened, print_json
from playground.comparison import grid, records
from playground.comparison.compare import begin, finish, follow, prompt_of
from playground.lens import score_text
from playground.lens.quantization import compare_quantization, unquantised
from playground.lens.token_scores import SHOWN_TOP, available, lens_record, places_of
from playground.prompting.lint import lint

STRENGTH = "scale an adapter: 0 is the base, 1 as trained, up to 1.5"
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
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=help, description=help)
        sub.set_defaults(command=command)
        return sub

    one = add("compare", _compare, "Send one prompt to all three variants.")
    _prompt_flags(one)
    _sampling_flags(one)
    one.add_argument("--json", action="store_true", help="print one object instead of blocks")
    one.add_argument("--strength", action="append", default=[], metavar="ROLE=S", help=STRENGTH)
    one.add_argument("--begin", default="", help="have every answer go on from this beginning")
    one = add("grid", _grid, "Send one input in all three forms to all three variants.")
    one.add_argument("text", help="the input; without --instruction, the instruction too")
    one.add_argument("--instruction", default="", help="an imperative above the input")
    one.add_argument(
        "--example", action="append", default=[], metavar="'IN => OUT'",
        help="a demonstration (some that make a base answer like an assistant)",
    )  # fmt: skip
    one.add_argument("--input-label", help="label of the input in the layout")
    one.add_argument("--cue", help="the cue that ends the layout")
    one.add_argument("--format", choices=FORMATS, default="own", help="own format, same bytes")
    one.add_argument("--trio", default=DEFAULT)
    _sampling_flags(one)
    one.add_argument("--json", action="store_true", help="print one object instead of blocks")
    one = add("lens", _lens, "Show what each variant expects next, and what a text costs it.")
    one.add_argument("text", help="a plain text, or with --format own an instruction")
    one.add_argument("--format", choices=FORMATS, default="same", help="same bytes, own format")
    one.add_argument("--answer-of", choices=ROLES, help="have all read this variant's answer")
    one.add_argument("--word", default="", help="tell what this would cost next, too")
    one.add_argument("--position", type=int, help="token after which to look (the last)")
    one.add_argument("--likeliest", type=int, default=SHOWN_TOP, help="tokens to show (10)")
    one.add_argument("--strength", action="append", default=[], metavar="ROLE=S", help=STRENGTH)
    one.add_argument("--trio", default=DEFAULT)
    _sampling_flags(one)
    one.add_argument("--json", action="store_true", help="print one object instead of tables")
    one = add("rounding", _rounding, "Compare 4-bit weights with the same ones unquantised.")
    one.add_argument("text", help="a plain text, or with --format own an instruction")
    one.add_argument("--format", choices=FORMATS, default="same", help="same bytes, own format")
    one.add_argument("--max-new-tokens", type=int, default=32)
    one.add_argument("--trio", default=DEFAULT)
    one.add_argument("--json", action="store_true", help="print one object instead of a table")
    one = add("prompt", _prompt, "Show what each variant would be sent; loads no weights.")
    _prompt_flags(one)
    one.add_argument("--lint", action="store_true", help="say what is odd; exit 1 on errors")
    one.add_argument("--max-new-tokens", type=int, default=Sampling().max_new_tokens)
    one.add_argument("--json", action="store_true", help="print one object")
    add("trios", _trios, "List the trios of the trio file.")
    commands.add_to(add)
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
    return prompt_of(flags.text, flags.form, flags.instruction, flags.example, _layout(flags))


def _layout(flags: argparse.Namespace) -> Layout | None:
    labels = {"input_label": flags.input_label, "cue": flags.cue}
    given = {name: label for name, label in labels.items() if label is not None}
    return Layout(**given) if given else None


def _sampling(flags: argparse.Namespace) -> Sampling:
    return Sampling(flags.max_new_tokens, flags.temperature, flags.top_p, flags.top_k, flags.seed)


def _strengths(flags: argparse.Namespace) -> dict[Role, float]:
    found: dict[Role, float] = {}
    for text in flags.strength:
        name, _, number = text.partition("=")
        role = next((role for role in ROLES if role == name.strip()), None)
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if role is None or math.isnan(strength):
            raise PromptError(f"--strength is {text!r}; it must be like task=0.5.")
        found[role] = strength
    return found


def _grid(flags: argparse.Namespace) -> None:
    prompts = grid.prompts_of(flags.text, flags.instruction, flags.example, _layout(flags))
    sampling = _sampling(flags)
    with closing(opened(find_trio(flags.trio))) as backend:
        cells = deque(grid.fill(backend, prompts, sampling, flags.format), maxlen=1)[0]
    if flags.json:
        print_json(grid.grid_record(prompts, cells))
    else:
        render.show_grid(prompts, cells, Console())


def _lens(flags: argparse.Namespace) -> None:
    sampling, strengths = _sampling(flags), _strengths(flags)
    with closing(opened(find_trio(flags.trio))) as backend:
        text, note = flags.text, ""
        if flags.format == "same":
            text, note = score_text.fitting(backend, flags.text)
        prompt = score_text.prompt_of(text)
        tokens = sampling.max_new_tokens
        answer = score_text.answer_of(
            backend, prompt, flags.answer_of, flags.format, tokens, strengths
        )
        *_, scores = score_text.score_text(
            backend, prompt, format=flags.format, answer=answer, top=flags.likeliest,
            sampling=sampling, strengths=strengths,
        )  # fmt: skip
        cost = score_text.cost(backend, prompt, flags.format, flags.word) if flags.word else {}
        note = " ".join([note, score_text.missing_scores(backend, scores)]).strip()
    if note:
        print(note, file=sys.stderr)
    if flags.json:
        costs = {"cost": {role: one.record() for role, one in cost.items()}} if cost else {}
        print_json({**lens_record(available(scores), flags.position), **costs})
    else:
        for role, one in cost.items():
            print(f"{flags.word!r} would cost {role} {one.loss:.2f} nats")
        known = available(scores)
        render.show_lens(known, places_of(known, flags.position), Console())


def _rounding(flags: argparse.Namespace) -> None:
    prompt = score_text.prompt_of(flags.text)
    with closing(opened(find_trio(flags.trio))) as backend, unquantised(backend) as whole:
        found = compare_quantization(backend, whole, prompt, flags.format, flags.max_new_tokens)
    if flags.json:
        print_json({"variants": {one.role: asdict(one) for one in found}})
    else:
        render.show_rounding(found, Console())


def _compare(flags: argparse.Namespace) -> None:
    request = Request(
        _given(flags),
        _sampling(flags),
        flags.format,
        stop_texts=not flags.no_stop_texts,
        strengths=_strengths(flags),
    )
    trio = find_trio(flags.trio)
    with closing(opened(trio)) as backend:
        answers = begin(backend, request)
        forced_prefix = score_text.beginning(backend, request.prompt, request.format, flags.begin)
        stream = backend.stream(replace(request, forced_prefix=forced_prefix))
        with closing(follow(answers, stream)) as states:
            if not flags.json:
                render.show(trio, states, Console())
                return
            answers = finish(states)
        print_json(records.comparison_record(trio.name, request, answers))


def _prompt(flags: argparse.Namespace) -> None:
    prompt, trio = _given(flags), find_trio(flags.trio)
    sent = models.preview(trio, prompt, flags.format, not flags.no_stop_texts)
    found = lint(trio, prompt, sent, flags.format, flags.max_new_tokens)
    if flags.json:
        told = {role: records.sent_record(one) for role, one in sent.items()}
        print_json({**told, "lint": [asdict(one) for one in found]} if flags.lint else told)
    else:
        for role, one in sent.items():
            print(f"── {role} · {len(one.ids)} tokens · {records.digest(one)}")
            print(render.printable(one.text))
            for text in one.stop_texts:
                print(f"   ends before {text!r}")
        for odd in found:
            print(f"{odd.level}, {', '.join(odd.roles)}: {odd.text} {odd.cure}")
    if flags.lint and any(one.level == "error" for one in found):
        raise PromptError("The prompt has errors, as said above.")


def _trios(flags: argparse.Namespace) -> None:
    for trio in read_trios().values():
        print(f"{trio.name}: {trio.title}, {trio.precision}")
        for variant in trio.variants:
            print(f"  {variant.role:9}{variant.name}, reads {variant.reads}: {variant.source}")
