"""Parses a link to a prompt: converts its query string to the values of the page's fields.

The page writes these links in `ui/static/js/share_link.js`, such as
`?instruction=Tell+me+a+joke&temperature=0.7`. The names are those of Compare's fields (`DEFAULTS`),
not of the API, which has `text` and `examples` instead. Demonstrations are pairs of `example_input`
and `example_output`, in order. Fields that the link does not name get their defaults; other names,
such as Gradio's theme or a host's own parameters, are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from models import FORMATS, FORMS, MAX_STRENGTH, Layout, PromptError, Sampling
from playground.prompting.forms import MAX_CHARACTERS

DEFAULTS: dict[str, Any] = {
    "form": "instruction",
    "instruction": "",
    "input": "",
    "input_label": Layout().input_label,
    "cue": Layout().cue,
    "format": "own",
    **{name: getattr(Sampling(), name) for name in Sampling.__dataclass_fields__},
    "stop_texts": True,
    "stop_loops": True,
    "task_strength": 1.0,
    "instruct_strength": 1.0,
}
"""The fields of a link other than demonstrations, with their defaults."""
RANGES: dict[str, tuple[float, float]] = {
    "shots": (0, 8),
    "max_new_tokens": (1, 512),
    "temperature": (0, 2),
    "top_p": (0.05, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.5, 2),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "task_strength": (0, MAX_STRENGTH),
    "instruct_strength": (0, MAX_STRENGTH),
}
"""Minimum and maximum of each of the page's sliders."""
EXAMPLE = ("example_input", "example_output")
"""Names of the two sides of a demonstration."""
_CHOICES = {"form": FORMS, "format": FORMATS}


def fields_of(query: str) -> dict[str, Any]:
    """Return the values of all fields, by name; empty if the link names no field.

    If there are demonstrations, `table` is the list of their pairs and `shots` their number.

    Raises:
        PromptError: the link is too long, or a value is invalid or outside its slider's range.
    """
    if len(query) > 4 * MAX_CHARACTERS:
        raise PromptError(f"The link is longer than {4 * MAX_CHARACTERS:,} characters.")
    given = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
    inputs, outputs = ([text for name, text in given if name == side] for side in EXAMPLE)
    named = {name: text for name, text in given if name in DEFAULTS}
    if not named and not inputs and not outputs:
        return {}
    if len(inputs) != len(outputs):
        raise PromptError(
            f"The link has {len(inputs)} {EXAMPLE[0]} and {len(outputs)} {EXAMPLE[1]}; each "
            "demonstration needs both."
        )
    fields = DEFAULTS | {name: _value(name, text) for name, text in named.items()}
    try:
        Sampling(**{name: fields[name] for name in Sampling.__dataclass_fields__})
    except PromptError as error:
        raise PromptError(f"The link: {error}") from error
    if inputs:
        rows = [list(pair) for pair in zip(inputs, outputs, strict=True)]
        fields |= {"table": rows, "shots": len(rows)}
    for name, (low, high) in RANGES.items():
        if name in fields and not low <= fields[name] <= high:  # refuses NaN, too
            raise PromptError(
                f"The link: {name} is {fields[name]:g}; it must be from {low:g} to {high:g}."
            )
    return fields


def _value(name: str, text: str) -> Any:
    """Convert the text of a field to the type of its default."""
    field_type = type(DEFAULTS[name])
    if name in _CHOICES and text not in _CHOICES[name]:
        raise PromptError(f"The link: {name} is {text!r}; it must be {_or(_CHOICES[name])}.")
    if field_type is bool:
        if text not in ("true", "false"):
            raise PromptError(f"The link: {name} is {text!r}; it must be true or false.")
        return text == "true"
    if field_type is str:
        return text
    value = _number(field_type, text)
    if value is None:
        wanted = "a whole number" if field_type is int else "a number"
        raise PromptError(f"The link: {name} is {text!r}; it must be {wanted}.")
    return value


def _number(field_type: Callable[[str], float], text: str) -> float | None:
    try:
        return field_type(text)
    except ValueError:
        return None


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
