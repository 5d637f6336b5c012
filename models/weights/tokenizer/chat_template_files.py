"""Finds the chat template that a folder's files give, in any form of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import WeightsError, first_line
from models.weights.json_object import read_object

_TEMPLATE = "chat_template.jinja"
_MORE_TEMPLATES = "additional_chat_templates"
"""A folder of templates by their names."""
_CONFIGS = ("tokenizer_config.json", "chat_template.json")
"""Files with the key `chat_template`; the second is an older form, which processors saved."""


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A chat template, and the file that it came from."""

    text: str
    file: Path


def read_template(folder: Path) -> TemplateFile | None:
    """Return a folder's chat template; of several named ones the default. None if it has none.

    As in transformers, files of templates come before those in a config, and replace them.

    Raises:
        WeightsError: a file cannot be read, or of several templates none is named default.
    """
    if named := _jinja_files(folder):
        if "default" not in named:
            raise _no_default(folder / _MORE_TEMPLATES, named)
        file = named["default"]
        return TemplateFile(_text(file), file)
    for file in (folder / name for name in _CONFIGS):
        if templates := _by_name(read_object(file).get("chat_template"), file):
            if "default" not in templates:
                raise _no_default(file, templates)
            return TemplateFile(templates["default"], file)
    return None


def _jinja_files(folder: Path) -> dict[str, Path]:
    """Return the files of templates by the templates' names."""
    first = {"default": folder / _TEMPLATE} if (folder / _TEMPLATE).is_file() else {}
    return first | {file.stem: file for file in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))}


def _by_name(templates: Any, file: Path) -> dict[str, str]:
    """Return the templates of a config: a text, a list of named ones, or an object of them."""
    if not templates:
        return {}
    if isinstance(templates, str):
        return {"default": templates}
    if isinstance(templates, list) and all(isinstance(entry, dict) for entry in templates):
        templates = {entry.get("name"): entry.get("template") for entry in templates}
    if not isinstance(templates, dict) or not all(
        isinstance(text, str) for pair in templates.items() for text in pair
    ):
        raise WeightsError(
            f"{file}: chat_template is neither a text nor texts with their names. Put the template "
            f"into {_TEMPLATE}."
        )
    return templates


def _no_default(file: Path, templates: dict[str, Any]) -> WeightsError:
    return WeightsError(
        f"{file} has the chat templates {', '.join(templates)}, and none named default. Put the "
        f"one to be used into {_TEMPLATE}."
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read: {first_line(error)}") from error
