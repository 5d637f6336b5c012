"""A training example as a data set has it, before it is formatted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RawExample:
    """One example of a data set, as it was published."""

    task: str
    """Examples of one task may be demonstrations for each other; empty if each has its own task."""
    instruction: str
    input: str
    output: str
    options: bool = True
    """Whether the output may stand among options to choose from."""
    subject: str = ""
    """What the example asks about, where it is asked in several wordings; else empty."""

    @property
    def item(self) -> tuple[str, str]:
        """What makes examples the same item, in whatever wording."""
        text = f"{self.instruction} {self.input}".strip() or self.output
        return self.task, (self.subject or text).lower()
