"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["ok", "note", "fault"]
"""A note is worth knowing, and nothing fails for it; a fault keeps something from working."""


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """What was looked at, what was seen, and what to do about it."""

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""
    """For a note or a fault: what follows from it, or what to do."""


def shortened(path: Path) -> str:
    """Return a path with `~` for the home folder, which holds the user's name."""
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home := Path.home()) else str(path)


def megabytes(size: float) -> str:
    """Return a number of bytes as text, in MB."""
    return f"{size / 1e6:,.0f} MB"
