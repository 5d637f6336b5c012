"""What the machine is: Python, system, processor, memory, packages. Imports no torch."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.capabilities import SWITCH, proc_file, usable_cpus, withheld
from models.doctor.check import DoctorCheck, megabytes

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells the limits of a container."""
FLAGS = {"avx2": "AVX2", "avx512_bf16": "AVX512-BF16", "amx_tile": "AMX"}
"""What kernels are chosen by, as Linux names it and as processors' makers do."""
LOADING_BYTES = 2.5e9
"""Memory that the embedded trio takes while it loads."""


def examine_machine() -> Iterator[DoctorCheck]:
    """Yield a check of Python, system, processor, memory, packages and the switch of parts."""
    yield _python()
    yield _system()
    yield _processor()
    yield _cores()
    yield _memory()
    yield from examine_packages(REQUIREMENTS.read_text(encoding="utf-8"))
    if parts := ", ".join(sorted(withheld())):
        yield DoctorCheck(
            SWITCH,
            parts,
            "note",
            "This variable takes them away, as docs/systems.md tells. Unset it if they work.",
        )


def _python() -> DoctorCheck:
    value = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info >= (3, 13):
        return DoctorCheck("Python", value, "note", "Only Python 3.11 and 3.12 were tried.")
    return DoctorCheck("Python", value)


def _system() -> DoctorCheck:
    value = platform.platform()
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return DoctorCheck("System", value)
    return DoctorCheck("System", value, "note", "Only Linux on x86-64 was tried; this should work.")


def _processor() -> DoctorCheck:
    lines = [line.partition(":") for line in proc_file("cpuinfo").splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    if "flags" not in fields:
        return DoctorCheck("Processor", f"{name} (what it can do is not told here)")
    there = fields["flags"].split()
    features = [f"{title} {'yes' if flag in there else 'no'}" for flag, title in FLAGS.items()]
    value = f"{name}: {', '.join(features)}"
    if "avx2" not in there:
        advice = "Without AVX2 there are no fast products in 8 and 16 bits."
        return DoctorCheck("Processor", value, "note", advice)
    return DoctorCheck("Processor", value)


def _cores() -> DoctorCheck:
    usable, limit = usable_cpus(), _cpu_limit()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    value = f"{usable} of {os.cpu_count()} CPUs usable"
    value += f", container limit {limit:g}" if limit else ", no container limit seen"
    value += f", OMP_NUM_THREADS={threads}" if threads else ""
    if limit and limit < usable and not threads:
        advice = f"Set OMP_NUM_THREADS={max(1, int(limit))}: more threads wait for each other."
        return DoctorCheck("Cores", value, "note", advice)
    if hasattr(os, "getloadavg"):  # Windows has none
        load = os.getloadavg()[0]
        value += f", {load:.1f} busy in the last minute"
        if load > usable / 2:
            advice = "Other programs are at work: speeds are lower than on a quiet machine."
            return DoctorCheck("Cores", value, "note", advice)
    return DoctorCheck("Cores", value)


def _cpu_limit() -> float | None:
    """Return the CPUs that a container may use at once; None if there is no limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # not Linux, no container, or "max"
        return None


def _memory() -> DoctorCheck:
    lines = [line.partition(":") for line in proc_file("meminfo").splitlines()]
    sizes = {name: 1024 * int(value.split()[0]) for name, _, value in lines}
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        advice = f"See that {megabytes(LOADING_BYTES)} are free: loading takes as much."
        return DoctorCheck("Memory", "not told here", "note", advice)
    free, value = sizes["MemAvailable"], f"{megabytes(sizes['MemTotal'])} in all"
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        free, value = min(free, limit - used), f"{value}, container limit {megabytes(limit)}"
    except (OSError, ValueError):
        pass
    value += f", {megabytes(free)} available"
    if free < LOADING_BYTES:
        advice = f"Loading takes {megabytes(LOADING_BYTES)}: end other programs first."
        return DoctorCheck("Memory", value, "note", advice)
    return DoctorCheck("Memory", value)


def examine_packages(requirements: str) -> Iterator[DoctorCheck]:
    """Yield one check of the packages that are as required, and one of each that is not.

    Args:
        requirements: text of a requirements file.
    """
    from packaging.requirements import Requirement

    right = []
    for line in requirements.splitlines():
        if not (text := line.partition("#")[0].strip()):
            continue
        requirement = Requirement(text)
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "missing"
        if installed != "missing" and requirement.specifier.contains(installed, prereleases=True):
            right.append(f"{requirement.name} {installed}")
            continue
        value = f"{requirement.name} {installed}, required is {requirement.specifier}"
        yield DoctorCheck("Package", value, "fault", "Run: pip install -r requirements.txt.")
    yield DoctorCheck("Packages", ", ".join(right) or "none as required")
