"""The examples that the page's tabs offer, read from TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models import SHIPPED, Demonstration, Form, Format, Layout, Prompt, Role, Trio, find_trio

GALLERY = Path(__file__).with_name("gallery.toml")


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    """What the shipped trio's greedy answer is like, without which an example makes no point."""

    badge: str
    """Regular expression that the answer's whole badge matches."""
    text: str = ".*"
    """Likewise for its text, without the white space around it."""

    def is_met_by(self, badge: str, text: str) -> bool:
        """Return whether an answer is as expected."""
        matches = re.fullmatch(self.text, text.strip(), re.DOTALL)
        return bool(matches and re.fullmatch(self.badge, badge))


@dataclass(frozen=True, slots=True)
class CompareExample:
    """One prompt to try, with a note on what to notice in the answers."""

    name: str
    form: Form
    notice: str
    answers: Mapping[Role, ExpectedAnswer]
    instruction: str = ""
    input: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    layout: Layout = Layout()

    @property
    def prompt(self) -> Prompt:
        """The prompt that the page makes of these fields."""
        layout = None if self.form == "instruction" else self.layout
        return Prompt(self.instruction, self.input, self.demonstrations, layout)


@dataclass(frozen=True, slots=True)
class GridExample:
    """One input to try in all three forms, with a note on what to notice."""

    name: str
    notice: str
    answers: Mapping[Form, Mapping[Role, ExpectedAnswer]]
    instruction: str
    input: str
    demonstrations: tuple[Demonstration, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class LensExample:
    """A text to score under all variants, with a note on what to notice."""

    name: str
    notice: str
    text: str
    format: Format = "same"
    answer_of: Role | None = None
    word: str = ""
    least_loss: Role | None = None
    """The shipped variant to which the word, else the answer, else the text is likeliest; None if
    the example's point is another."""
    most_loss: Role | None = None
    """Likewise the one to which it is least likely."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The examples of each tab, in the order of the file."""

    trio: str
    """Name of the shipped trio whose answers the notices are about."""
    compare: tuple[CompareExample, ...]
    grid: tuple[GridExample, ...]
    lens: tuple[LensExample, ...]


def read_gallery(path: Path = GALLERY) -> Gallery:
    """Read the examples."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    compare = [
        CompareExample(answers=_by_role(table.pop("answers")), **_with_layout(table))
        for table in tables["compare"]
    ]
    grid = [
        GridExample(
            answers={form: _by_role(roles) for form, roles in table.pop("answers").items()},
            **_with_layout(table),
        )
        for table in tables["grid"]
    ]
    lens = [LensExample(**table) for table in tables["lens"]]
    return Gallery(tables["trio"], tuple(compare), tuple(grid), tuple(lens))


def gallery_for(trio: Trio) -> Gallery:
    """Return the examples for a trio; without notices, unless it is the one they are about."""
    gallery = read_gallery()
    if trio.variants == find_trio(gallery.trio, SHIPPED).variants:
        return gallery
    return replace(
        gallery,
        compare=tuple(replace(example, notice="") for example in gallery.compare),
        grid=tuple(replace(example, notice="") for example in gallery.grid),
        lens=tuple(replace(example, notice="") for example in gallery.lens),
    )


def _by_role(tables: Mapping[Role, Mapping[str, str]]) -> dict[Role, ExpectedAnswer]:
    return {role: ExpectedAnswer(**table) for role, table in tables.items()}


def _with_layout(table: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(table)
    shots = tuple(Demonstration(*pair) for pair in fields.pop("examples", []))
    layout = Layout(fields.pop("input_label", "Input"), fields.pop("cue", "Output"))
    return {**fields, "demonstrations": shots, "layout": layout}


ASSISTANT = next(e for e in read_gallery().compare if e.name == "Base as assistant")
"""The example whose demonstrations make a base behave like an assistant."""
