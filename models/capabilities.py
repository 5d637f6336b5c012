"""Parts of a system that not every machine has, and the switch that takes each away.

Each has a plain replacement, chosen where the part is missing. TRIPTYCH_WITHOUT lists parts to do
without, separated by commas: for a machine on which one is broken, and for tests.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from models.errors import WeightsError

SWITCH = "TRIPTYCH_WITHOUT"
PARTS = {
    "fbgemm": "products in 8 and 16 bits; without it they are in float32",
    "onednn": "packed products; without it torch multiplies by its own means",
    "bnb_kernels": "4-bit products by bitsandbytes; without them weights are unpacked once",
    "glibc": "returns freed memory to the system; without it the process keeps it",
    "proc": "tells memory and processor; without it they are unknown",
    "affinity": "counts the CPUs given to this process; without it all count",
}
"""What each part is for, and what happens without it."""


@cache
def withheld() -> frozenset[str]:
    """Return the parts that the environment takes away.

    Raises:
        WeightsError: it names a part that is not known.
    """
    names = {name.strip() for name in os.environ.get(SWITCH, "").split(",")} - {""}
    if unknown := sorted(names - PARTS.keys()):
        known = ", ".join(PARTS)
        raise WeightsError(f"{SWITCH} names {unknown[0]!r}. It takes: {known}.")
    return frozenset(names)


def proc_file(name: str) -> str:
    """Return the text of a file below /proc; empty on systems without it."""
    if "proc" in withheld():
        return ""
    try:
        return Path("/proc", name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def usable_cpus() -> int:
    """Return the number of CPUs that this process may run on; where unknown, of all."""
    if "affinity" not in withheld() and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
