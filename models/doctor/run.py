"""The doctor: examines machine, network, cache and a trio. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from models.doctor.cache import examine_cache
from models.doctor.check import DoctorCheck
from models.doctor.machine import examine_machine
from models.doctor.network import examine_network
from models.errors import ModelError, first_line, is_out_of_memory
from models.model_info import ProgressCallback
from models.types import Trio, Weights


def run_doctor(trio: Trio, port: int, on_progress: ProgressCallback) -> Iterator[DoctorCheck]:
    """Yield the checks of this machine and of a trio on it, as they are made.

    The trio's weights are loaded, and answer; its servers are not asked.

    Args:
        trio: the trio to open.
        port: where the page is to be served on this machine.
        on_progress: called with the progress of loading.
    """
    for part, examine in (
        ("Machine", examine_machine),
        ("Network", partial(examine_network, trio, port)),
        ("Cache", partial(examine_cache, trio)),
    ):
        try:
            yield from examine()
        except ImportError as error:
            advice = "Run: pip install -r requirements.txt"
            yield DoctorCheck(part, f"cannot be examined: {first_line(error)}", "fault", advice)
    variants = tuple(v for v in trio.variants if isinstance(v.source, Weights))
    if not variants:
        yield DoctorCheck("Trio", f"{trio.name}: all its variants are servers, none computes here")
        return
    try:
        yield from _examine_weights(replace(trio, variants=variants), on_progress)
    except ModelError as error:
        yield DoctorCheck("Trio", f"{trio.name} cannot be opened", "fault", str(error))
    except (ImportError, OSError, RuntimeError, MemoryError) as error:
        advice = (
            "There is not enough memory: end other programs, or take a smaller model."
            if is_out_of_memory(error)
            else f"Report this line: {type(error).__name__}: {first_line(error)}"
        )
        yield DoctorCheck("Trio", f"{trio.name} cannot be computed", "fault", advice)


def _examine_weights(trio: Trio, on_progress: ProgressCallback) -> Iterator[DoctorCheck]:
    from models.backends.local import LocalBackend
    from models.doctor.engine import examine_device, examine_engine

    yield from examine_device()
    backend = LocalBackend(trio, on_progress)
    try:
        bases = len(backend.groups)
        yield DoctorCheck(
            "Trio", f"{trio.name}: {len(trio.variants)} variants on {bases} base{'s' * (bases > 1)}"
        )
        yield from examine_engine(backend)
    finally:
        backend.close()
