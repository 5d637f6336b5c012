"""The benchmark's prompts: of a chosen length, and each with a different beginning."""

from __future__ import annotations

from models.types import Demonstration, Layout, Prompt

_THINGS = ("river", "lamp", "violin", "harbour", "recipe", "winter", "letter", "garden", "bell")
TURNS = len(_THINGS)
"""Number of different prompts; their answers differ in how much they repeat themselves."""
_ASKS = (
    "Write a short note to a friend who has lost a {} on the way home, and say what to do next.",
    "Which of these would you rather see near a {}: a bridge, a tower or a mill? Give one reason.",
    "Explain to a child of seven what a {} is, and why people care about it so much.",
)
_FILLER = "The path goes up past the mill and down again to the water, and nobody is in a hurry. "


def prompts(count: int, tokens: int = 32, turn: int = 0) -> list[Prompt]:
    """Return prompts of about the same length; any three in a row have the three forms.

    Args:
        count: number of prompts.
        tokens: rough number of tokens of each.
        turn: number of the first prompt.
    """
    result = []
    for n in (number % TURNS for number in range(turn, turn + count)):
        filler = _FILLER * ((tokens - 32) // 19)
        text = f"{n + 1}. {_ASKS[n % len(_ASKS)].format(_THINGS[n])} {filler}".strip()
        layout = Layout("Question", "Answer") if n % 3 else None
        shots = (Demonstration("What is a lake?", "still water"),) if n % 3 == 2 else ()
        result.append(Prompt("", text, shots, layout) if layout else Prompt(text))
    return result
