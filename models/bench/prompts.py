"""Prompts of a known length, each of its own beginning."""

from __future__ import annotations

from models.types import Demonstration, Layout, Prompt

_THINGS = ("river", "lamp", "violin", "harbour", "recipe", "winter", "letter", "garden", "bell")
TURNS = len(_THINGS)
"""Prompts before they begin again: how much a text repeats itself differs from one to the next."""
_ASKS = (
    "Write a short note to a friend who has lost a {} on the way home, and say what to do next.",
    "Which of these would you rather see near a {}: a bridge, a tower or a mill? Give one reason.",
    "Explain to a child of seven what a {} is, and why people care about it so much.",
)
_FILLER = "The path goes up past the mill and down again to the water, and nobody is in a hurry. "


def prompts(count: int, tokens: int = 32, turn: int = 0) -> list[Prompt]:
    """Return prompts of about that many tokens; any three in a row are in three forms.

    Args:
        count: how many.
        tokens: of each, roughly.
        turn: where to begin.
    """
    made = []
    for n in (number % TURNS for number in range(turn, turn + count)):
        filler = _FILLER * ((tokens - 32) // 19)
        asked = f"{n + 1}. {_ASKS[n % len(_ASKS)].format(_THINGS[n])} {filler}".strip()
        layout = Layout("Question", "Answer") if n % 3 else None
        shots = (Demonstration("What is a lake?", "still water"),) if n % 3 == 2 else ()
        made.append(
            Prompt("", asked, shots, layout) if layout else Prompt(asked),
        )
    return made
