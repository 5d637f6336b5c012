"""Atomic writing of text files: completely, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from models import PromptError


def write_whole(path: Path, text: str) -> None:
    """Write a text to a temporary file and rename it, so that no partial file is ever visible.

    Raises:
        PromptError: the file cannot be written; its earlier content is kept.
    """
    try:
        file, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    except OSError as error:
        raise PromptError(f"{path}: cannot be written: {error}.") from error
    try:
        with open(file, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise PromptError(f"{path}: cannot be written: {error}.") from error
