"""Files derived from others, kept in the cache, so that the next start need not derive them again.

A folder of derived files has a key: a hash over everything that they depend on. Whatever changes,
the key does, and they are derived anew. Folders are written beside their place and renamed, so that
none is half-written. That a cache cannot be written, or is damaged, is logged, and costs only time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.cache.checked_files import damage, record_files, recorded_facts, samples_digest
from models.cache.folder import cache_folder

_log = logging.getLogger(__name__)
_PACKAGES = ("torch", "transformers", "tokenizers", "bitsandbytes", "safetensors")
"""Packages whose version counts in every key."""
WORTH_BYTES = 32 << 20
"""Size of files from which deriving them again takes longer than reading what was derived."""
_PARTIAL = "partial-"
_ABANDONED_S = 3600.0
"""Age in seconds of a half-written folder that nobody is writing any more."""


class DerivedFiles:
    """A folder of files that are derived from others."""

    def __init__(self, kind: str, depends_on: Mapping[str, Any], most: int = 3) -> None:
        """Name the folder; nothing is read or written yet.

        Args:
            kind: what is derived, as a folder's name.
            depends_on: what the files depend on, beside the packages' versions: values of JSON.
            most: number of folders of this kind that are kept, those used last.
        """
        packages = {name: _version(name) for name in _PACKAGES}
        depends = {**depends_on, "packages": packages, "processor": platform.machine()}
        key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = cache_folder() / "derived" / kind / key
        self._most = most

    def read(self, whole: bool = False) -> dict[str, Any] | None:
        """Return the facts that were written with the files; None if the files are not there.

        Damaged files are deleted.

        Args:
            whole: whether large files are compared whole, not only by samples.
        """
        try:
            if not self.folder.is_dir():
                return None
        except OSError as error:
            _log.warning("%s cannot be read: %s", self.folder, error.strerror)
            return None
        if fault := damage(self.folder, whole):
            self.discard(fault)
            return None
        with suppress(OSError):  # a cache that is only read
            os.utime(self.folder)
        return recorded_facts(self.folder)

    def discard(self, fault: str) -> None:
        """Delete the files, and log why: they are derived again."""
        _log.warning("%s. It is made again.", fault)
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, derive: Callable[[Path], Mapping[str, Any]]) -> None:
        """Write the files; whatever keeps them from being written is logged, and costs only time.

        Args:
            derive: writes the files into a folder, which is there and empty, and returns the facts
                that `read` is to return: values of JSON.
        """
        kind, beside = self.folder.parent, None
        try:
            kind.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=kind))
            record_files(beside, dict(derive(beside)))
            if not self.folder.is_dir() or damage(self.folder):  # another start was faster
                shutil.rmtree(self.folder, ignore_errors=True)
                os.replace(beside, self.folder)
        except Exception as error:  # tokenizers and safetensors have their own for a full disk
            _log.warning(
                "%s cannot be written: %s. The next start takes as long as this one.",
                self.folder,
                getattr(error, "strerror", None) or error,
            )
        finally:
            if beside:
                shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):  # another start deletes the same
            self._delete_old(kind)

    def _delete_old(self, kind: Path) -> None:
        """Delete the folders that were not used for the longest time, and what is half-written."""
        now, used = time.time(), {path: path.stat().st_mtime for path in kind.iterdir()}
        partial = {path for path in used if path.name.startswith(_PARTIAL)}
        whole = sorted(used.keys() - partial, key=lambda path: used[path], reverse=True)
        abandoned = [path for path in partial if now - used[path] > _ABANDONED_S]
        for path in (*whole[self._most :], *abandoned):
            shutil.rmtree(path, ignore_errors=True)


def stamps(files: Sequence[Path]) -> list[tuple[str, int, int, str]]:
    """Return each file's name, size in bytes, time of change, and a hash over samples of it.

    Together they tell a changed file at the cost of reading four megabytes of it.
    """
    return [
        (path.name, (stat := path.stat()).st_size, stat.st_mtime_ns, samples_digest(path))
        for path in files
    ]


def code_digest(*files: str | None) -> str:
    """Return a hash over source files: what they derive, other code may derive otherwise."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(str(file)).read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
