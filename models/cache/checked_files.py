"""A folder's files with their sizes and hashes, recorded when they were written.

What is read later is compared with the record. Small files are hashed whole each time, and so are
those with another time of change; of other large ones, some blocks, which finds a file that was cut
or overwritten at the cost of a few megabytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

RECORD = "files.json"
"""The record, beside the files."""
_FORM = 1
"""Version of the record; one of another version is none."""
_SAMPLED_FROM = 32 << 20
"""Bytes from which a file is hashed by samples."""
_BLOCK, _BLOCKS = 64 << 10, 64
"""Bytes of a sampled block, and number of blocks in a file: the first, the last, evenly between."""


def record_files(folder: Path, facts: dict[str, Any]) -> None:
    """Write the record of all files in a folder, and facts that go with them.

    The files are on the disk when it is: a power cut leaves no record of what is not there.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "changed_ns": path.stat().st_mtime_ns,
            "sha256": _synced_digest(path),
            "samples_sha256": samples_digest(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }
    record = {"form": _FORM, "files": files, "facts": facts}
    text = json.dumps({**record, "sha256": _record_digest(record)}, indent=1)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def recorded_facts(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a folder's record; None if there is no record that can be read."""
    record = _record(folder)
    return None if record is None else dict(record["facts"])


def damage(folder: Path, whole: bool = False) -> str:
    """Return what is wrong with a folder's files; empty if nothing is.

    Args:
        folder: holds a record.
        whole: whether large files are hashed whole, too.
    """
    record = _record(folder)
    if record is None:
        return f"{folder / RECORD} cannot be read"
    for name, recorded in record["files"].items():
        path = folder / name
        try:
            stat = path.stat()
            if stat.st_size != recorded["size"]:
                return f"{path} has {stat.st_size} bytes instead of {recorded['size']}"
            is_old = stat.st_mtime_ns == recorded["changed_ns"]
            sampled = stat.st_size >= _SAMPLED_FROM and is_old and not whole
            digest = samples_digest(path) if sampled else whole_digest(path)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
        if digest != recorded["samples_sha256" if sampled else "sha256"]:
            return f"{path} does not hold what was written"
    return ""


def whole_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synced_digest(path: Path) -> str:
    """Return the SHA-256 of a file that was just written, once it is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return whole_digest(path)


def samples_digest(path: Path) -> str:
    """Return the SHA-256 of some blocks of a file, all of a small one, in hexadecimal."""
    digest, last = hashlib.sha256(), max(path.stat().st_size - _BLOCK, 0)
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(last * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _record(folder: Path) -> Any:
    """Return a folder's record; None if there is none, or none that is as it was written."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        is_whole = record.pop("sha256") == _record_digest(record)
        return record if is_whole and record["form"] == _FORM else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None


def _record_digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
