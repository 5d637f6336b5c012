"""MedQuAD: medical questions with answers, read from the data folder."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models import PromptError

FILE = Path("med") / "medquad_6nih_sites.jsonl.gz"
_HOME = "github.com/abachaa/MedQuAD"


def read_medquad(data: Path) -> Iterator[dict[str, Any]]:
    """Yield a record for each line: question, answer and focus (the disease that it is about).

    Raises:
        PromptError: the data set is not in the folder, or damaged.
    """
    path = data / FILE
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except (EOFError, ValueError, zlib.error) as error:
        raise PromptError(f"{path}: is damaged ({error}). Take it from {_HOME} again.") from error
    except OSError as error:
        raise PromptError(f"MedQuAD is not at {path}. Its home is {_HOME}.") from error
