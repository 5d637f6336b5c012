"""The commands that take one prompt, and the command that lists the trios."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import models
from models import DEFAULT, FORMATS, ROLES, PromptError, Request, Sampling, find_trio
from playground.cli import render
from playground.cli.answer_blocks import show_answers, show_records
from playground.cli.flags import (
    add_prompt_flags,
    add_sampling_flags,
    add_trio_file_flag,
    add_trio_flags,
    layout_from,
    prompt_from,
    sampling_from,
    strengths_from,
)
from playground.cli.page_client import compare_at, running_page
from playground.cli.progress import opened
from playground.cli.terminal import Terminal, print_json, say
from playground.comparison import grid, records
from playground.comparison.compare import begin, finish, follow
from playground.lens import score_text
from playground.lens.quantization import compare_quantization, unquantised
from playground.lens.reading import LensRequest, read
from playground.lens.token_scores import SHOWN_TOP, available, lens_record, places_of
from playground.prompting.lint import lint

STRENGTH = "scale an adapter: 0 is the base, 1 as trained, up to 1.5"
STOP_LOOPS = "end answers that repeat themselves"


def _grid_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="the input; without --instruction, the instruction too")
    parser.add_argument("--instruction", default="", help="an imperative above the input")
    parser.add_argument(
        "--example", action="append", default=[], metavar="'IN => OUT'",
        help="a demonstration (some that make a base answer like an assistant)",
    )  # fmt: skip
    parser.add_argument("--input-label", help="label of the input in the layout")
    parser.add_argument("--cue", help="the cue that ends the layout")
    parser.add_argument("--format", choices=FORMATS, default="own", help="own format, same bytes")
    add_trio_flags(parser)
    add_sampling_flags(parser)
    parser.add_argument("--stop-loops", action="store_true", help=STOP_LOOPS)
    parser.add_argument("--json", action="store_true", help="print one object instead of blocks")


def _grid(flags: argparse.Namespace) -> None:
    """Send one input in all three forms to all three variants."""
    prompts = grid.prompts_of(flags.text, flags.instruction, flags.example, layout_from(flags))
    sampling = sampling_from(flags)
    with closing(opened(find_trio(flags.trio))) as backend:
        states = grid.fill(backend, prompts, sampling, flags.format, stop_loops=flags.stop_loops)
        cells = deque(states, maxlen=1)[0]
    if flags.json:
        print_json(grid.grid_record(prompts, cells))
    else:
        render.show_grid(prompts, cells, Terminal())


def _lens_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="a plain text, or with --format own an instruction")
    parser.add_argument("--format", choices=FORMATS, default="same", help="same bytes, own format")
    parser.add_argument("--answer-of", choices=ROLES, help="have all read this variant's answer")
    parser.add_argument("--word", default="", help="tell what this would cost next, too")
    parser.add_argument("--position", type=int, help="token after which to look (the last)")
    parser.add_argument("--likeliest", type=int, default=SHOWN_TOP, help="tokens to show (10)")
    parser.add_argument("--strength", action="append", default=[], metavar="ROLE=S", help=STRENGTH)
    add_trio_flags(parser)
    add_sampling_flags(parser, penalties=False)
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")


def _lens(flags: argparse.Namespace) -> None:
    """Show what each variant expects next, and what a text costs it."""
    request = LensRequest(
        flags.text, flags.format, flags.answer_of, flags.word, sampling_from(flags),
        flags.likeliest, strengths_from(flags),
    )  # fmt: skip
    with closing(opened(find_trio(flags.trio))) as backend:
        *_, reading = read(backend, request)
    if reading.problem:
        raise PromptError(reading.problem)
    if reading.note:
        say(reading.note, file=sys.stderr)
    scores = available(reading.scores)
    if flags.json:
        costs = {role: summary.record() for role, summary in reading.cost.items()}
        record = lens_record(scores, flags.position)
        print_json({**record, "cost": costs} if costs else record)
    else:
        for role, summary in reading.cost.items():
            say(f"{flags.word!r} would cost {role} {summary.loss:.2f} nats")
        render.show_lens(scores, places_of(scores, flags.position), Terminal())


def _rounding_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="a plain text, or with --format own an instruction")
    parser.add_argument("--format", choices=FORMATS, default="same", help="same bytes, own format")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    add_trio_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")


def _rounding(flags: argparse.Namespace) -> None:
    """Compare 4-bit weights with the same ones unquantised."""
    prompt, sampling = score_text.prompt_of(flags.text), Sampling(flags.max_new_tokens)
    with closing(opened(find_trio(flags.trio))) as backend, unquantised(backend) as exact:
        reports = compare_quantization(backend, exact, prompt, flags.format, sampling)
    if flags.json:
        print_json({"variants": {report.role: asdict(report) for report in reports}})
    else:
        render.show_rounding(reports, Terminal())


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    add_prompt_flags(parser)
    parser.set_defaults(trio=None)  # with --at, the page's first
    add_sampling_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one object instead of blocks")
    parser.add_argument("--strength", action="append", default=[], metavar="ROLE=S", help=STRENGTH)
    parser.add_argument("--stop-loops", action="store_true", help=STOP_LOOPS)
    parser.add_argument("--begin", default="", help="have every answer go on from this beginning")
    parser.add_argument(
        "--at", metavar="URL", help="ask a page that is running; loads nothing here"
    )


def _compare(flags: argparse.Namespace) -> None:
    """Send one prompt to all three variants."""
    request = Request(
        prompt_from(flags),
        sampling_from(flags),
        flags.format,
        stop_texts=not flags.no_stop_texts,
        stop_loops=flags.stop_loops,
        strengths=strengths_from(flags),
    )
    if flags.at:
        _compare_at(flags, request)
        return
    trio = find_trio(flags.trio or DEFAULT)
    if sys.stderr.isatty() and (url := running_page()):
        say(f"A page runs here: --at {url} asks it, and loads nothing.", file=sys.stderr)
    with closing(opened(trio)) as backend:
        answers = begin(backend, request)
        forced_prefix = score_text.forced_prefix_ids(
            backend, request.prompt, request.format, flags.begin
        )
        stream = backend.stream(replace(request, forced_prefix=forced_prefix))
        with closing(follow(answers, stream)) as states:
            if not flags.json:
                show_answers(trio, states, Terminal())
                return
            answers = finish(states)
        print_json(records.comparison_record(trio.name, request, answers))


def _compare_at(flags: argparse.Namespace, request: Request) -> None:
    given = {
        "--begin": flags.begin,
        "--no-stop-texts": flags.no_stop_texts,
        "--input-label": flags.input_label is not None,
        "--cue": flags.cue is not None,
        "--strength base": "base" in request.strengths,
    }
    if others := [name for name, value in given.items() if value]:
        raise PromptError(f"{others[0]} cannot be asked of a page. Leave it or --at out.")
    with closing(compare_at(flags.at, request, flags.trio or "")) as states:
        if flags.json:
            print_json(deque(states, maxlen=1)[0])
        else:
            show_records(states, Terminal())


def _prompt_flags(parser: argparse.ArgumentParser) -> None:
    add_prompt_flags(parser)
    parser.add_argument("--lint", action="store_true", help="say what is odd; exit 1 on errors")
    parser.add_argument("--max-new-tokens", type=int, default=Sampling().max_new_tokens)
    parser.add_argument("--json", action="store_true", help="print one object")


def _prompt(flags: argparse.Namespace) -> None:
    """Show what each variant would be sent; loads no weights."""
    prompt, sampling = prompt_from(flags), Sampling(flags.max_new_tokens)
    trio = models.with_context(find_trio(flags.trio))
    sent = models.preview(trio, prompt, flags.format, not flags.no_stop_texts)
    lints = lint(trio, prompt, sent, flags.format, sampling.max_new_tokens)
    if flags.json:
        record: dict[str, Any] = {
            role: records.sent_record(encoded) for role, encoded in sent.items()
        }
        if flags.lint:
            record["lint"] = [asdict(finding) for finding in lints]
        print_json(record)
    else:
        for role, encoded in sent.items():
            say(f"── {role} · {len(encoded.ids)} tokens · {records.digest(encoded)}")
            say(encoded.text)
            for text in encoded.stop_texts:
                say(f"   ends before {text!r}")
            if flags.lint:
                for part, file in encoded.sources.items():
                    say(f"   {part}: {file}")
        for finding in lints:
            say(f"{finding.level}, {', '.join(finding.roles)}: {finding.text} {finding.cure}")
    if flags.lint and any(finding.level == "error" for finding in lints):
        raise PromptError("The prompt has errors, as said above.")


def _trios(flags: argparse.Namespace) -> None:
    """List the trios."""
    for trio in models.read_trios().values():
        say(f"{trio.name}: {trio.title}, {trio.precision}")
        for variant in trio.variants:
            say(f"  {variant.role:9}{variant.name}, reads {variant.reads}: {variant.source}")


COMMANDS = {
    "compare": (_compare, _compare_flags),
    "grid": (_grid, _grid_flags),
    "lens": (_lens, _lens_flags),
    "rounding": (_rounding, _rounding_flags),
    "prompt": (_prompt, _prompt_flags),
    "trios": (_trios, add_trio_file_flag),
}
"""Functions of each command: one that runs it (its docstring is the help), one for its flags."""
