"""The folder that prepared bases are kept in: can it be written, and is what is there whole?"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.doctor.check import DoctorCheck, megabytes, shortened
from models.types import Trio, Weights
from models.weights.fetch import DONE, PREPARED_VERSION, cache_folder

PREPARING_BYTES = 1.5e9
"""Disk space that preparing the embedded base takes."""
FILES = ("config.json", "model.safetensors", "tokenizer.json")
_READ_BYTES = 2**20


def examine_cache(trio: Trio) -> Iterator[DoctorCheck]:
    """Yield a check of the cache folder, and one of each prepared base in it."""
    folder = cache_folder()
    prepared = [path.parent for path in sorted(folder.glob(f"*/{DONE}"))]
    yield _writable(folder, bool(prepared))
    for base in prepared:
        yield _prepared(base)
    sources = {v.source.base.source for v in trio.variants if isinstance(v.source, Weights)}
    for source in sorted(sources):
        name = source.removeprefix("package:")
        if name != source and not any(base.name.startswith(f"{name}-") for base in prepared):
            advice = "The first start prepares it, once: about a minute, on two cores longer."
            yield DoctorCheck("Prepared base", f"{name}: not there yet", "note", advice)


def _writable(folder: Path, has_bases: bool) -> DoctorCheck:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return DoctorCheck(
            "Cache folder",
            f"{shortened(folder)} cannot be written: {error.strerror or error}",
            "note" if has_bases else "fault",
            "Set TRIPTYCH_CACHE to a folder that can be written, with 1.5 GB free.",
        )
    value = f"{shortened(folder)}, {megabytes(free)} free"
    if free < PREPARING_BYTES and not has_bases:
        advice = "Preparing the base takes 1.5 GB. Free space, or set TRIPTYCH_CACHE elsewhere."
        return DoctorCheck("Cache folder", value, "fault", advice)
    return DoctorCheck("Cache folder", value)


def _prepared(folder: Path) -> DoctorCheck:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    value = f"{folder.name}, {megabytes(size)}"
    if problems := damage_of(folder):
        return DoctorCheck(
            "Prepared base",
            f"{value}: {', '.join(problems)}",
            "fault",
            f"Delete {shortened(folder)}: the next start prepares it anew.",
        )
    return DoctorCheck("Prepared base", f"{value}, its weights as they were written")


def damage_of(folder: Path) -> list[str]:
    """Return what is wrong with a prepared base's files; empty if all is well.

    The weights are read whole and compared with the hash that was taken when they were written.
    """
    problems = [f"{name} is missing" for name in FILES if not (folder / name).is_file()]
    try:
        record = json.loads((folder / DONE).read_text(encoding="utf-8"))
        expected, form = record["model_sha256"], record["form"]
    except (OSError, ValueError, KeyError, TypeError):
        return [*problems, f"{DONE} cannot be read"]
    if form != PREPARED_VERSION:
        problems.append("it was prepared by another version")
    if not problems and _sha256(folder / "model.safetensors") != expected:
        problems.append("model.safetensors is not as it was written")
    return problems


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
