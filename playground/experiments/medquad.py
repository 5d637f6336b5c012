"""MedQuAD: medical questions with answers, read from the data folder."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models import PromptError

FILE = Path("med") / "medquad_6nih_sites.jsonl.gz"


def read_medquad(data: Path) -> Iterator[dict[str, Any]]:
    """Yield a record for each line: question, answer and focus (the disease that it is about).

    Raises:
        PromptError: the data set is not in the folder.
    """
    path = data / FILE
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except OSError as error:
        home = "github.com/abachaa/MedQuAD"
        raise PromptError(f"MedQuAD is not at {path}. Its home is {home}.") from error
