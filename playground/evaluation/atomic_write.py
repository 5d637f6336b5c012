"""Atomic writing of text files: completely, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from models import PromptError


def check_out(path: Path) -> None:
    """Check that a file can be written, by creating and deleting a temporary file beside it.

    Raises:
        PromptError: the file cannot be written.
    """
    try:
        if path.is_dir():
            raise PromptError(f"{path}: cannot be written: it is a folder. Name a file.")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp"):
            pass
    except (OSError, ValueError) as error:
        raise PromptError(f"{path}: cannot be written: {error}.") from error


def write_whole(path: Path, text: str) -> None:
    """Write JSON to a temporary file and rename it, so that no partial file is ever visible.

    A lone surrogate, which UTF-8 lacks, is written as its escape, which JSON reads back.

    Raises:
        PromptError: the file cannot be written; its earlier content is kept.
    """
    content = text.encode("utf-8", errors="backslashreplace")
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f"{path.name}.", suffix=".tmp", delete=False
        ) as out:
            temporary = Path(out.name)
            out.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except (OSError, ValueError) as error:
        raise PromptError(f"{path}: cannot be written: {error}.") from error
    finally:  # Ctrl-C, too, leaves no temporary file behind
        if temporary:
            temporary.unlink(missing_ok=True)
