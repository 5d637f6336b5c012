"""The examples on the page: TOML → values, checked when they are read."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models import Demonstration, Form, Layout, Prompt

GALLERY = Path(__file__).with_name("gallery.toml")


@dataclass(frozen=True, slots=True)
class GalleryExample:
    """One prompt to try, and what to notice about the answers."""

    name: str
    form: Form
    notice: str
    instruction: str = ""
    input: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    layout: Layout = Layout()

    @property
    def prompt(self) -> Prompt:
        """The prompt, as the page's fields make it."""
        layout = None if self.form == "instruction" else self.layout
        return Prompt(self.instruction, self.input, self.demonstrations, layout)


def read_gallery(path: Path = GALLERY) -> list[GalleryExample]:
    """Read the examples in the order of the file."""
    examples = []
    for table in tomllib.loads(path.read_text(encoding="utf-8"))["example"]:
        shots = tuple(Demonstration(*pair) for pair in table.pop("examples", []))
        layout = Layout(table.pop("input_label", "Input"), table.pop("cue", "Output"))
        examples.append(GalleryExample(demonstrations=shots, layout=layout, **table))
    return examples


ASSISTANT = next(one for one in read_gallery() if one.name == "Base as assistant")
"""Its demonstrations make a base behave like an assistant."""
