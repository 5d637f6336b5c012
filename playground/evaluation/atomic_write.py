"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from models import PromptError


def write_whole(path: Path, text: str) -> None:
    """Write a text beside, and rename: a full disk or a second writer leaves no half of it.

    Raises:
        PromptError: it cannot be written; what was there stays.
    """
    try:
        file, beside = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    except OSError as error:
        raise PromptError(f"{path}: cannot be written: {error}.") from error
    try:
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError as error:
        Path(beside).unlink(missing_ok=True)
        raise PromptError(f"{path}: cannot be written: {error}.") from error
