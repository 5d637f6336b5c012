"""Control tokens are found where a regular expression of all of them would find them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from models.text.control_tokens import ControlTokens

TOKENS = st.lists(st.text("<|ab>", min_size=1, max_size=5), max_size=8)
TEXTS = st.text("<|ab> ", max_size=40)


@given(TOKENS, TEXTS, st.integers(0, 40), st.integers(0, 40))
def test_from_the_left_the_longest(tokens, text, start, end) -> None:
    longest_first = sorted(tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    controls = ControlTokens(tokens)
    expected = [match.span() for match in pattern.finditer(text, start, end)]
    assert list(controls.spans(text, start, end)) == expected
    assert controls.among(text) == pattern.findall(text)


def test_an_empty_token_is_none() -> None:
    assert ControlTokens(["", "<eos>"]).among("a<eos>b") == ["<eos>"]
