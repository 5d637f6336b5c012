"""Splits texts into words, for comparing answers."""

from __future__ import annotations

import re


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())
