"""A link's query → what it puts into the page's fields. `ui/static/js/share_link.js` writes it.

`?instruction=Tell+me+a+joke&temperature=0.7`: names are those of the API; demonstrations are pairs
of `example_input` and `example_output`, in their order. What is not named is as usual. Other names
(themes, what hosts add) are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from models import FORMATS, FORMS, MAX_STRENGTH, Layout, PromptError, Sampling
from playground.prompting.forms import MAX_CHARACTERS

USUAL: dict[str, Any] = {
    "form": "instruction",
    "instruction": "",
    "input": "",
    "input_label": Layout().input_label,
    "cue": Layout().cue,
    "format": "own",
    **{name: getattr(Sampling(), name) for name in Sampling.__dataclass_fields__},
    "stop_texts": True,
    "task_strength": 1.0,
    "instruct_strength": 1.0,
}
"""Every field that a link can name once, as it is where the link does not name it."""
RANGES: dict[str, tuple[float, float]] = {
    "shots": (0, 8),
    "max_new_tokens": (1, 512),
    "temperature": (0, 2),
    "top_p": (0.05, 1),
    "task_strength": (0, MAX_STRENGTH),
    "instruct_strength": (0, MAX_STRENGTH),
}
"""What the page's sliders span."""
EXAMPLE = ("example_input", "example_output")
_CHOICES = {"form": FORMS, "format": FORMATS}


def fields_of(query: str) -> dict[str, Any]:
    """Return the values of all fields that a link fills, by name; none where it names no field.

    Demonstrations, where there are any, are `table`, a list of pairs, and `shots`, their number.

    Raises:
        PromptError: it is too long, or a value is none that its field can hold or its slider spans.
    """
    if len(query) > 4 * MAX_CHARACTERS:
        raise PromptError(f"The link is longer than {4 * MAX_CHARACTERS:,} characters.")
    given = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
    inputs, outputs = ([text for name, text in given if name == side] for side in EXAMPLE)
    named = {name: text for name, text in given if name in USUAL}
    if not named and not inputs and not outputs:
        return {}
    if len(inputs) != len(outputs):
        raise PromptError(
            f"The link has {len(inputs)} {EXAMPLE[0]} and {len(outputs)} {EXAMPLE[1]}; each "
            "demonstration needs both."
        )
    found = USUAL | {name: _value(name, text) for name, text in named.items()}
    try:
        Sampling(**{name: found[name] for name in Sampling.__dataclass_fields__})
    except PromptError as error:
        raise PromptError(f"The link: {error}") from error
    if inputs:
        rows = [list(pair) for pair in zip(inputs, outputs, strict=True)]
        found |= {"table": rows, "shots": len(rows)}
    for name, (low, high) in RANGES.items():
        if name in found and not low <= found[name] <= high:  # not NaN, either
            raise PromptError(
                f"The link: {name} is {found[name]:g}; it must be from {low:g} to {high:g}."
            )
    return found


def _value(name: str, text: str) -> Any:
    """Read one field's text as what the field holds."""
    kind = type(USUAL[name])
    if name in _CHOICES and text not in _CHOICES[name]:
        raise PromptError(f"The link: {name} is {text!r}; it must be {_or(_CHOICES[name])}.")
    if kind is bool:
        if text not in ("true", "false"):
            raise PromptError(f"The link: {name} is {text!r}; it must be true or false.")
        return text == "true"
    if kind is str:
        return text
    value = _number(kind, text)
    if value is None:
        wanted = "a whole number" if kind is int else "a number"
        raise PromptError(f"The link: {name} is {text!r}; it must be {wanted}.")
    return value


def _number(kind: Callable[[str], float], text: str) -> float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
