"""Prints the results of commands as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models import Form, Prompt, Role
from playground.cli.answer_blocks import STYLES, append_remarks
from playground.cli.terminal import printable
from playground.comparison.badges import badge
from playground.comparison.grid import Grid
from playground.comparison.records import answer_record
from playground.evaluation.results import Result
from playground.evaluation.run import Evaluation
from playground.lens.quantization import QuantizationReport
from playground.lens.token_scores import TrioScores, loss_summary


def show_bench(result: dict[str, Any], console: Console) -> None:
    """Print the result of `models.run_bench`: the machine, a table, and derived figures."""
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    table = Table("", "tokens/s", "first token", "memory", "", box=SIMPLE_HEAD)
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in result["rows"]:
        if "skipped" in row:
            table.add_row(row["name"], "–", "–", "–", f"{row['what']}: {row['skipped']}")
            continue
        first = f"{row['first_token_s']:.3f} s" if "first_token_s" in row else ""
        memory = f"{row['memory_bytes'] / 1e6:,.0f} MB"
        table.add_row(row["name"], f"{row['tokens_per_s']:.1f}", first, memory, row["what"])
    console.print(table)
    for name, ratio in result["ratios"].items():
        console.print(f"{name}: {ratio:.2f}")
    step = result["step"]
    console.print(
        f"A step reads {step['bytes'] / 1e6:,.0f} MB, {step['steps_per_s']:.1f} times a second: "
        f"{step['share_of_limit']:.0%} of the {step['memory_bytes_per_s'] / 1e9:.1f} GB/s that "
        f"this machine reads. {step['operations']} operations in the layers."
    )
    for name in ("step_ms", "layers_ms"):
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in step[name].items())
        console.print(f"Milliseconds of a {name.removesuffix('_ms')}: {parts}")
    for length, times in result.get("first_token_s", {}).items():
        text = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())
        console.print(f"First token after a prompt of about {length} tokens: {text}")
    for count, times in result.get("labels", {}).items():
        console.print(
            f"{count} labels ranked after 8 prompts under each variant: {times['shared_s']:.2f} s; "
            f"each as a text of its own {times['alone_s']:.2f} s: "
            f"{times['ratio']:.1f} times as fast."
        )
    for count, seconds in result.get("read_s", {}).items():
        console.print(f"A text of {count} tokens read under each variant: {seconds:.2f} s")
    if agreement := result.get("agreement"):
        console.print(
            f"Greedy texts of {agreement['new_tokens']} tokens: "
            f"{agreement['same_in_company']:.0%} the same in company as alone, "
            f"{agreement['same_as_reference']:.0%} of {agreement['texts']} the same as the "
            f"reference's; the others part at token {agreement['first_divergence']}."
        )


def show_optimisations(result: dict[str, Any], console: Console) -> None:
    """Print the result of `models.measure_optimisations`: the machine and a table."""
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    table = Table("", "measured in", "seconds", "without it", "times as long", box=SIMPLE_HEAD)
    for row in result["rows"]:
        seconds = (f"{row[key]:.2f} s" for key in ("seconds", "seconds_without"))
        table.add_row(row["name"], row["way"], *seconds, f"{row['ratio']:.3f}")
    console.print(table)


def show_evaluation(state: Evaluation, console: Console) -> None:
    """Print an evaluation: a line for each task, form and scoring, then the paired differences."""
    roles = state.plan.variants
    names = [f"{role}, %" for role in roles]
    table = Table("task", "form", "scoring", *names, "n", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    lines: dict[tuple[str, str, str], dict[str, Result]] = {}
    for row in state.results():
        lines.setdefault((row.task, row.form, row.scoring), {})[row.variant] = row
    for line, (key, by_role) in enumerate(lines.items()):
        cells = [
            f"{100 * row.value:.0f} ({100 * row.low:.0f}–{100 * row.high:.0f})"
            for row in by_role.values()
        ]
        last = line + 1 == len(lines) or list(lines)[line + 1][0] != key[0]
        count = next(iter(by_role.values())).n
        table.add_row(*key, *cells, str(count), end_section=last)
    console.print(table)
    for pair in state.differences():
        if pair.scoring == "generation":
            p = "" if pair.p is None else f", p {pair.p:.3f}"
            console.print(
                f"{pair.task}, {pair.form}: {pair.ours} less {pair.theirs} "
                f"{100 * pair.value:+.0f} points "
                f"({100 * pair.low:+.0f} to {100 * pair.high:+.0f}){p}"
            )


def show_grid(prompts: Mapping[Form, Prompt], cells: Grid, console: Console) -> None:
    """Print the nine answers of a grid, form by form."""
    for form, answers in cells.items():
        console.print(Text(f"══ {form}", "bold"))
        for role, answer in answers.items():
            text = Text(f"{role}: {badge(answer, prompts[form])} ", STYLES[role])
            text.append(f"({answer.figures} · {answer.stopped})\n", "dim")
            text.append(printable(answer.text))
            append_remarks(text, answer_record(answer))
            console.print(text, soft_wrap=True)


def show_lens(scores: TrioScores, places: Mapping[Role, int], console: Console) -> None:
    """Print the variants' likeliest tokens after a position side by side, then their losses."""
    table = Table(*scores, box=SIMPLE_HEAD)
    distributions = [known.distributions[places[role]] for role, known in scores.items()]
    likeliest = [distribution.top for distribution in distributions]
    for row in zip_longest(*likeliest):
        table.add_row(
            *(
                f"{printable(repr(token.text)[1:-1])}  {token.p:.1%}" if token else ""
                for token in row
            )
        )
    table.add_section()
    table.add_row(*(f"all others  {distribution.remaining:.1%}" for distribution in distributions))
    console.print(table)
    table = Table("", *scores, box=SIMPLE_HEAD)
    for name, sums in (
        ("whole text", {role: loss_summary(known) for role, known in scores.items()}),
        ("answer", {role: loss_summary(known, answer=True) for role, known in scores.items()}),
    ):
        cells = [
            f"{summary.mean_loss:.2f} nats a token, perplexity {summary.perplexity:,.1f}, "
            f"{summary.tokens} tokens"
            for summary in sums.values()
            if summary
        ]
        if cells:
            table.add_row(name, *cells)
    console.print(table)


def show_rounding(reports: Sequence[QuantizationReport], console: Console) -> None:
    """Print how much quantization changes each variant, next to how much tuning does."""
    table = Table("", "rounding, nats", "tuning, nats", "same likeliest", "answers part at",
                  box=SIMPLE_HEAD)  # fmt: skip
    for report in reports:
        tuning = "–" if report.tuning_kl is None else f"{report.tuning_kl:.3f}"
        parts = "nowhere" if report.parts_at is None else f"token {report.parts_at + 1}"
        table.add_row(report.role, f"{report.kl:.3f}", tuning, f"{report.same_top:.0%}", parts)
    console.print(table)
    console.print(
        "Mean divergence over the tokens of each 4-bit answer (a lower bound): of 4 bits from the "
        "unquantised weights, and of the tuned variant from the base."
    )


def show_exercise(result: dict[str, Any], console: Console) -> None:
    """Print the table of the medical experiment, each figure with its difference from the base."""
    names = [name for name in result["rows"][0] if name != "tuned on"]
    table = Table("tuned on", *names, box=SIMPLE_HEAD)
    for row in result["rows"]:
        cells = []
        for name in names:
            more = row[name]["more_than_base"]
            interval = f" ({more['value']:+.2f}, {more['low']:+.2f} to {more['high']:+.2f})"
            cells.append(f"{row[name]['value']:.2f}" + interval * (row["tuned on"] != "base"))
        table.add_row(row["tuned on"], *cells)
    console.print(table)
    console.print(
        f"{result['n']} held-out questions; in brackets the difference from the base and its 95 % "
        f"interval. Not {result['not']}."
    )
