"""Splits texts into words, for comparing answers."""

from __future__ import annotations

import unicodedata

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+", regex.V1)
"""A word, or one character of a script that writes no spaces between words."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case; NFD and NFC have the same."""
    words: list[str] = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    return words
