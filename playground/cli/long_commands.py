"""The commands that run long: tune, make-data, exercise, measure, evaluate."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import models
from models import DEFAULT, FORMS, ROLES, Progress, PromptError, Role, find_trio
from playground.cli import render
from playground.cli.flags import add_trio_flags, names, path, refuse
from playground.cli.progress import Bar, opened
from playground.cli.terminal import Terminal, print_json, say
from playground.evaluation.atomic_write import check_out
from playground.evaluation.task import TASKS, Task, shipped_tasks
from playground.training_data.passages import read_passages
from playground.training_data.rules import KINDS, RULES, ask_rows, make_rows, write


def _tune_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("recipe", type=os.path.expanduser, help="a TOML file, or the name of a shipped recipe")
    add("--data", type=path, required=True, help="folder of the data sets")
    add("--out", type=path, required=True, help="folder for adapter and checkpoints")


def _tune(flags: argparse.Namespace) -> None:
    """Train an adapter by a recipe."""
    steps = models.tune(flags.recipe, flags.data, flags.out)
    with Bar() as bar:
        task = bar.add_task("Reading the data, measuring the base", total=None)
        for step in steps:
            bar.update(task, description=str(step), total=step.total, completed=step.done)
    say(f"Written to {flags.out}.")


def _make_data_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("texts", type=path, nargs="+", help="text files, or JSON whose objects have a text")
    add("--as", dest="kind", choices=KINDS, default="instruction")
    add("--rules", type=names, help=f"of: {', '.join(RULES)} (all)")
    add("--seed", type=int, help="of the choice among wordings (0)")
    add("--via", choices=ROLES, help="have this variant ask and answer, no rules")
    add_trio_flags(parser, None, "for --via")
    add("--out", type=path, required=True, help="file of JSON lines to write")


def _make_data(flags: argparse.Namespace) -> None:
    """Make training rows of raw texts, by rules."""
    if flags.via and (flags.kind != "instruction" or flags.rules is not None):
        raise PromptError("--via makes instruction rows, by no rule. Leave out --as and --rules.")
    if flags.via:
        refuse(flags, ("seed",), "is of rules, and --via asks by none. Leave one out.")
    else:
        refuse(flags, ("trio",), "is for --via. Name a variant by it.")
    if flags.kind == "text":
        refuse(flags, ("rules", "seed"), "is of rules, and --as text has none. Leave one out.")
    check_out(flags.out)
    passages = read_passages(flags.texts)
    if flags.via:
        with closing(opened(find_trio(flags.trio or DEFAULT))) as backend:
            rows, dropped = ask_rows(backend, passages, flags.via)
    else:
        rows, dropped = make_rows(passages, flags.kind, flags.rules or (), flags.seed or 0)
    left_out = ", ".join(f"{count} {why}" for why, count in dropped.items())
    if not rows:
        why = f"Left out: {left_out}." if dropped else "No rule finds anything in these texts."
        raise PromptError(f"There is no row to write. {why} Take other texts or other rules.")
    write((row.record(flags.kind) for row in rows), flags.out)
    counts = Counter(row.method for row in rows)
    methods = ", ".join(f"{count} {method}" for method, count in counts.items())
    say(f"{len(rows)} rows in {flags.out}: {methods}.")
    if dropped:
        say(f"Left out: {left_out}.")


def _measure_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=["intents", "instructions", "open", "foreign", "forgetting"]
    )
    parser.add_argument("--data", type=path, help="folder of the data sets; not for instructions")
    parser.add_argument("--limit", type=int, help="utterances, or texts")
    parser.add_argument("--role", choices=ROLES, help="variant; for instructions and open alone")
    add_trio_flags(parser)
    parser.add_argument("--json", action="store_true", help="print every answer too")


def _measure(flags: argparse.Namespace) -> None:
    """Measure an adapter as its model card reports it."""
    from playground.experiments import model_cards

    if flags.what == "instructions":
        why = "is not for instructions: they ship with Triptych, and all are asked. Leave it out."
        refuse(flags, ("data", "limit"), why)
    elif flags.what != "open":
        refuse(flags, ("role",), "is for instructions and open alone. Leave it out.")
    role: Role = flags.role or "instruct"
    limit = 300 if flags.limit is None else flags.limit
    model_cards.check(flags.what, flags.data, limit)
    with closing(opened(find_trio(flags.trio))) as backend, Bar() as bar:
        task = bar.add_task(f"Measuring {flags.what}", total=None)

        def on_progress(progress: Progress) -> None:
            count = round(progress.done * progress.total)
            bar.update(task, completed=count, total=progress.total)

        if flags.what == "instructions":
            result = model_cards.instructions(backend, on_progress, role)
        else:
            measures: dict[str, Callable[..., dict[str, Any]]] = {
                "intents": model_cards.intents,
                "open": partial(model_cards.open_instructions, role=role),
                "foreign": model_cards.off_task_format,
                "forgetting": model_cards.plain_text_loss,
            }
            result = measures[flags.what](backend, flags.data, limit, on_progress)
    if not flags.json:
        result.pop("items")
    print_json(result)


def _exercise_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=path, required=True, help="folder for rows and adapters")
    parser.add_argument("--limit", type=int, default=100, help="held-out questions (100)")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")


def _exercise(flags: argparse.Namespace) -> None:
    """Tune on one set of texts in three ways, and compare."""
    from playground.experiments.medical import exercise

    with Bar() as bar:
        task = bar.add_task("Reading the data", total=1.0)
        result = exercise(flags.data, flags.out, flags.limit, bar.callback_for(task))
    if flags.json:
        print_json(result)
    else:
        render.show_exercise(result, Terminal())


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tasks", type=names, help=f"of: {', '.join(TASKS)}, or --data's (all)")
    add("--data", type=path, help="folder of public sets, asked instead")
    add("--set", type=path, metavar="FILE", help="a set of one's own, CSV or JSON")
    add("--input-column", help="of --set (input)")
    add("--label-column", help="of --set (label)")
    add("--labels", type=names, help="of --set (those of its rows)")
    add("--score", choices=["label", "exact", "text"])
    add("--instruction", action="append", help="a wording for --set")
    add("--forms", type=names, default=FORMS, help="prompt forms (all)")
    add("--variants", type=names, default=ROLES, help="base, task, instruct (all)")
    add("--limit", type=int, default=0, help="items of each task (all)")
    add("--wordings", type=int, default=1, help="wordings that each item is asked in")
    add("--shots", type=int, default=4, help="demonstrations of few-shot prompts (4)")
    add("--out", type=path, help="file to save in as it goes, and to go on from")
    add_trio_flags(parser)
    add("--json", action="store_true", help="print one object instead of a table")


def _evaluate(flags: argparse.Namespace) -> None:
    """Measure the variants on labelled tasks."""
    from playground.evaluation.config import Plan, named
    from playground.evaluation.run import evaluate, evaluation_record, head_of

    known = _tasks(flags)
    plan = Plan(
        tasks=named(known, known if flags.tasks is None else flags.tasks, "task"),
        forms=named({form: form for form in FORMS}, flags.forms, "form"),
        variants=named({role: role for role in ROLES}, flags.variants, "variant"),
        limit=flags.limit,
        wordings=flags.wordings,
        shots=flags.shots,
    )
    if flags.out and not os.path.isfile(flags.out):  # an existing file may be complete
        check_out(flags.out)
    with closing(opened(find_trio(flags.trio))) as backend, Bar() as bar:
        task = bar.add_task("Asking", total=None)
        for state in evaluate(backend, plan, flags.out):
            bar.update(task, completed=state.done, total=state.total)
        head = head_of(backend, plan)
    for note in state.notes:
        say(note, file=sys.stderr)
    if flags.json:
        print_json(evaluation_record(head, state))
    else:
        render.show_evaluation(state, Terminal())


def _tasks(flags: argparse.Namespace) -> dict[str, Task]:
    """Return the tasks to choose from: the user's own, the public ones, or the shipped ones."""
    from playground.evaluation.custom_dataset import read_custom_dataset
    from playground.evaluation.public_datasets import public_tasks

    if not flags.set:
        own = ("input_column", "label_column", "labels", "score", "instruction")
        refuse(flags, own, "is of a set of one's own. Name it by --set.")
        return public_tasks(flags.data) if flags.data else shipped_tasks()
    refuse(flags, ("data",), "is of public sets, and --set is asked instead. Leave one out.")
    task, notes = read_custom_dataset(
        flags.set,
        "input" if flags.input_column is None else flags.input_column,
        "label" if flags.label_column is None else flags.label_column,
        instructions=flags.instruction or (),
        score=flags.score or "label",
        labels=flags.labels or (),
        demonstrations=flags.shots,
    )
    for note in notes:
        say(note, file=sys.stderr)
    return {task.name: task}


COMMANDS = {
    "tune": (_tune, _tune_flags),
    "make-data": (_make_data, _make_data_flags),
    "measure": (_measure, _measure_flags),
    "exercise": (_exercise, _exercise_flags),
    "evaluate": (_evaluate, _evaluate_flags),
}
"""Functions of each command: one that runs it (its docstring is the help), one for its flags."""
