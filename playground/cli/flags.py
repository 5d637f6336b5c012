"""Flags that several commands share, and their conversion to values."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models import (
    DEFAULT,
    FORMATS,
    FORMS,
    ROLES,
    TRIOS_VARIABLE,
    Layout,
    Prompt,
    PromptError,
    Role,
    Sampling,
)
from playground.comparison.compare import prompt_of


def add_prompt_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the fields of a prompt, its format and the trio."""
    add = parser.add_argument
    add("text", help="the instruction; with another form, the input")
    add("--form", choices=FORMS, help="prompt form (instruction)")
    add("--instruction", default="", help="an imperative above the input")
    add("--example", action="append", default=[], metavar="'IN => OUT'", help="a demonstration")
    add("--input-label", help="label of the input in the layout (Input)")
    add("--cue", help="the cue that ends the layout (Output)")
    add("--format", choices=FORMATS, default="own", help="own format, same bytes")
    add("--no-stop-texts", action="store_true", help="let text variants run on")
    add_trio_flags(parser)


def add_trio_flags(
    parser: argparse.ArgumentParser, default: str | None = DEFAULT, use: str = "name of a trio"
) -> None:
    """Add the flags that name a trio, and further files with trios."""
    parser.add_argument("--trio", default=default, help=f"{use} ({default or DEFAULT})")
    add_trio_file_flag(parser)


def add_trio_file_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names further files with trios."""
    parser.add_argument(
        "--trios", type=path, action="append", metavar="FILE", help="a further file with trios"
    )


@contextmanager
def further_trio_files(paths: Sequence[Path] | None) -> Iterator[None]:
    """Add files to `TRIPTYCH_TRIOS` within the context, for this process and those it starts.

    Raises:
        PromptError: a path holds what separates paths in an environment variable.
    """
    before = os.environ.get(TRIOS_VARIABLE)
    for path in paths or ():
        if os.pathsep in str(path.resolve()):
            raise PromptError(f"{path}: a trio file's path may not hold {os.pathsep!r}. Move it.")
    names = [*filter(None, [before]), *(str(path.resolve()) for path in paths or ())]
    os.environ[TRIOS_VARIABLE] = os.pathsep.join(names)
    try:
        yield
    finally:
        if before is None:
            del os.environ[TRIOS_VARIABLE]
        else:
            os.environ[TRIOS_VARIABLE] = before


def add_sampling_flags(parser: argparse.ArgumentParser, penalties: bool = True) -> None:
    """Add the flags for the sampling settings, with or without the penalties."""
    add = parser.add_argument
    defaults = Sampling()
    add("--max-new-tokens", type=int, default=defaults.max_new_tokens)
    add("--temperature", type=float, default=defaults.temperature, help="0 is greedy")
    add("--top-p", type=float, default=defaults.top_p)
    add("--top-k", type=int, default=defaults.top_k, help="0 keeps all")
    add("--min-p", type=float, default=defaults.min_p, help="0 keeps all")
    add("--seed", type=int, default=defaults.seed)
    if penalties:
        add("--repetition-penalty", type=float, default=1.0, help="1 is none")
        add("--presence-penalty", type=float, default=0.0, help="0 is none")
        add("--frequency-penalty", type=float, default=0.0, help="0 is none")


def prompt_from(flags: argparse.Namespace) -> Prompt:
    """Make the prompt from the flags.

    Raises:
        PromptError: a field is missing or invalid.
    """
    return prompt_of(flags.text, flags.form, flags.instruction, flags.example, layout_from(flags))


def layout_from(flags: argparse.Namespace) -> Layout | None:
    """Return the layout; None if no flag sets one of its labels."""
    labels = {"input_label": flags.input_label, "cue": flags.cue}
    given = {name: label for name, label in labels.items() if label is not None}
    return Layout(**given) if given else None


def sampling_from(flags: argparse.Namespace) -> Sampling:
    """Return the sampling settings.

    Raises:
        PromptError: a setting is out of its range.
    """
    given = vars(flags)
    return Sampling(
        **{name: given[name] for name in Sampling.__dataclass_fields__ if name in given}
    )


def strengths_from(flags: argparse.Namespace) -> dict[Role, float]:
    """Return the scale of each adapter that `--strength` names.

    Raises:
        PromptError: a flag is not of the form `task=0.5`.
    """
    strengths: dict[Role, float] = {}
    for text in flags.strength:
        name, _, number = text.partition("=")
        role = next((role for role in ROLES if role == name.strip()), None)
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        if role is None or math.isnan(strength):
            raise PromptError(f"--strength is {text!r}; it must be like task=0.5.")
        strengths[role] = strength
    return strengths


def path(text: str) -> Path:
    """Parse a path; `~` is the home folder, which not every shell replaces."""
    return Path(os.path.expanduser(text))


def positive(text: str) -> int:
    """Parse a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def port(text: str) -> int:
    """Parse the number of a port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; a port is from 1 to 65535")
    return int(text)


def names(text: str) -> list[str]:
    """Split a comma-separated list of names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def refuse(flags: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse flags that do not apply; a flag that was not given is None.

    Raises:
        PromptError: a flag was given; the message is its name and `why`.
    """
    for name in names:
        if getattr(flags, name) is not None:
            raise PromptError(f"--{name.replace('_', '-')} {why}")
