"""The cache: can it be written, and is what is in it as it was written?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.cache.checked_files import RECORD, damage, recorded_facts
from models.cache.folder import cache_folder
from models.doctor.check import DoctorCheck, megabytes, shortened
from models.types import Trio, Weights
from models.weights.fetch import PREPARED_VERSION, prepared_name

PREPARING_BYTES = 2e9
"""Disk space that preparing the embedded base takes."""


def examine_cache(trio: Trio) -> Iterator[DoctorCheck]:
    """Yield a check of the cache folder, and of what is in it."""
    folder = cache_folder()
    prepared = sorted(path.parent for path in folder.glob(f"*-*/{RECORD}"))
    pins = {v.source.base for v in trio.variants if isinstance(v.source, Weights)}
    needed = {prepared_name(pin) for pin in pins if pin.source.startswith("package:")}
    yield _writable(folder, bool(prepared))
    for base in prepared:
        yield _prepared(base, base.name in needed)
    for name in sorted(needed - {base.name for base in prepared}):
        advice = "The first start prepares it, once: about a minute, on two cores longer."
        yield DoctorCheck("Prepared base", f"{name}: not there yet", "note", advice)
    if derived := _derived(folder):
        yield derived


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
            "Set TRIPTYCH_CACHE to a folder that can be written, with 2 GB free.",
        )
    value = f"{shortened(folder)}, {megabytes(free)} free"
    if free < PREPARING_BYTES and not has_bases:
        advice = "Preparing the base takes 2 GB. Free space, or set TRIPTYCH_CACHE elsewhere."
        return DoctorCheck("Cache folder", value, "fault", advice)
    return DoctorCheck("Cache folder", value)


def _prepared(folder: Path, is_needed: bool) -> DoctorCheck:
    value = f"{folder.name}, {megabytes(_size(folder))}"
    fault = damage(folder, whole=True)
    if not fault and (recorded_facts(folder) or {}).get("form") != PREPARED_VERSION:
        fault = "it was prepared by another version"
    if not fault:
        return DoctorCheck("Prepared base", f"{value}, as it was written")
    if is_needed:
        advice = "The next start prepares it anew."
        return DoctorCheck("Prepared base", f"{value}: {fault}", "fault", advice)
    advice = f"The trio does not need it: {shortened(folder)} may be deleted."
    return DoctorCheck("Prepared base", f"{value}: {fault}", "note", advice)


def _derived(folder: Path) -> DoctorCheck | None:
    """Return a check of the files that are kept for faster starts; None if there are none."""
    # What has no record of this version is never read, and goes with the time.
    records = sorted(folder.glob(f"derived/*/*/{RECORD}"))
    folders = [path.parent for path in records if recorded_facts(path.parent) is not None]
    if not folders:
        return None
    value = f"{megabytes(sum(map(_size, folders)))} in {len(folders)} folders"
    if faults := [fault for path in folders if (fault := damage(path, whole=True))]:
        advice = "The next start makes it again. Has the disk faults?"
        return DoctorCheck("Kept for faster starts", f"{value}: {faults[0]}", "fault", advice)
    return DoctorCheck("Kept for faster starts", f"{value}, as they were written")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
