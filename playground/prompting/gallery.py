"""The example prompts that the page offers, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models import Demonstration, Form, Layout, Prompt

GALLERY = Path(__file__).with_name("gallery.toml")


@dataclass(frozen=True, slots=True)
class GalleryExample:
    """One prompt to try, with a note on what to notice in the answers."""

    name: str
    form: Form
    notice: str
    instruction: str = ""
    input: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    layout: Layout = Layout()

    @property
    def prompt(self) -> Prompt:
        """The prompt that the page makes of these fields."""
        layout = None if self.form == "instruction" else self.layout
        return Prompt(self.instruction, self.input, self.demonstrations, layout)


def read_gallery(path: Path = GALLERY) -> list[GalleryExample]:
    """Read the example prompts, in the order of the file."""
    examples = []
    for table in tomllib.loads(path.read_text(encoding="utf-8"))["example"]:
        shots = tuple(Demonstration(*pair) for pair in table.pop("examples", []))
        layout = Layout(table.pop("input_label", "Input"), table.pop("cue", "Output"))
        examples.append(GalleryExample(demonstrations=shots, layout=layout, **table))
    return examples


ASSISTANT = next(example for example in read_gallery() if example.name == "Base as assistant")
"""The example whose demonstrations make a base behave like an assistant."""
