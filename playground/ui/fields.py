"""Checks values of the page's fields, since a browser can send anything."""

from __future__ import annotations

from models import Demonstration, PromptError


def demonstrations(table: object) -> list[Demonstration]:
    """Return the demonstrations of the page's table, without its empty rows.

    Raises:
        PromptError: the table is not a list of pairs of texts.
    """
    shots = []
    for row in table if isinstance(table, list) else [table]:
        pair = isinstance(row, list) and len(row) == 2 and all(isinstance(c, str) for c in row)
        if not isinstance(row, list) or not pair:
            raise PromptError(f"A row of demonstrations is {row!r}; it must be two texts.")
        if any(cell.strip() for cell in row):
            shots.append(Demonstration(*row))
    return shots


def whole_number(field: str, value: object) -> int:
    """Convert a number field's value, which may be a float such as 8.0, to an integer.

    Args:
        field: the field's label on the page, for the error message.
        value: the value as the browser sent it.

    Raises:
        PromptError: the value is not a whole number, or the field is empty.
    """
    if not isinstance(value, int | float) or not float(value).is_integer():
        problem = "is empty" if value is None else f"holds {value!r}"
        raise PromptError(f"{field} {problem}; it must be a whole number.")
    return int(value)
