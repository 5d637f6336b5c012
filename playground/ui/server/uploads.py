"""Uploaded files: their kinds, and how many of what size are held at a time. Pure but for a clock.

Gradio keeps what is uploaded until `KEPT_S` seconds have passed.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import PurePath

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Endings of the names of files that are read."""
KEPT_S = 3600
"""Seconds for which a file is kept."""
SWEEP_S = 300
"""Seconds between two looks for files that have been kept for long enough."""
MAX_FILE = 8 << 20
"""Most bytes of a file."""
MAX_UPLOAD = MAX_FILE + (1 << 16)
"""Most bytes of a request with a file."""
MAX_FILES_OF_ONE = 60
"""Most files of one address that are held, behind which there may be a class."""
MAX_HELD = 512 << 20
"""Most bytes of all files that are held."""
_NAME = re.compile(rb'filename\*?\s*=\s*(?:"([^"\r\n]*)"|([^;\r\n]*))', re.IGNORECASE)


class Uploads:
    """What was uploaded lately, by address."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing; `now` is a clock in seconds."""
        self._now = now
        self._held: deque[tuple[float, str, int]] = deque()
        """Time, address and bytes of each request."""

    def admit(self, address: str, content_type: str, body: bytes) -> str:
        """Count a request with one file; return why it is refused, empty if it is not."""
        names = file_names(content_type, body)
        if len(names) != 1:
            return f"{len(names)} files are sent; send one at a time."
        if PurePath(names[0].lower()).suffix not in KINDS:
            return f"A file is one of {', '.join(KINDS)} here. Save it as such."
        while self._held and self._now() - self._held[0][0] > KEPT_S + SWEEP_S:
            self._held.popleft()
        if sum(owner == address for _, owner, _ in self._held) >= MAX_FILES_OF_ONE:
            return f"{MAX_FILES_OF_ONE} files of this address are held. Try again in an hour."
        if sum(size for *_, size in self._held) + len(body) > MAX_HELD:
            return f"{MAX_HELD >> 20} MB of files are held. Try again in an hour."
        self._held.append((self._now(), address, len(body)))
        return ""


def file_names(content_type: str, body: bytes) -> list[str]:
    """Return the names of the files in a body of multipart/form-data."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if not boundary:
        return []
    names = []
    for part in body.split(b"--" + boundary[1].encode())[1:]:
        head = part.partition(b"\r\n\r\n")[0]
        names += [(a or b).decode(errors="replace").strip() for a, b in _NAME.findall(head)]
    return names
