"""Chooses an engine's output head; its 8-bit copy and the gate's measurement are kept in the cache.

Quantizing the copy and measuring it on a fixed text take a third of loading. Neither changes from
start to start.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.cache.derived import WORTH_BYTES, DerivedFiles, code_digest
from models.capabilities import proc_file, withheld
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers import q8_0
from models.engine.sampling import int8_matmul, lm_head
from models.engine.sampling.int8_matmul import Int8Matrix, Int8Rows, quantize_rows
from models.engine.sampling.lm_head import (
    ExactHead,
    Head,
    ScreenedHead,
    measure_head,
    reason_not_to_screen,
)
from models.model_info import HeadGate

_ROWS = "rows.safetensors"
_PACKING: dict[str, Future[Int8Matrix | None]] = {}
"""The copy that is being packed, if any, by the hash of its base's weights."""


@torch.inference_mode()
def choose_head(
    engine: Engine,
    adapters: Sequence[int],
    ids: Sequence[int],
    digests: Sequence[str],
    others: Sequence[ScreenedHead] = (),
) -> tuple[Head, HeadGate]:
    """Return the head that an engine's steps are to use, and the measurement behind the choice.

    Args:
        engine: has the exact head.
        adapters: the adapter number of each variant.
        ids: token ids of the fixed text.
        digests: hashes of the base's weights, then of each adapter's.
        others: screened heads of other engines, reused where the weights are the same.
    """
    exact, packing = engine.lm.exact_head, _PACKING.pop(digests[0], None)
    if reason := reason_not_to_screen(exact):
        return exact, HeadGate(used=False, reason=reason)
    measured = _measured(engine, adapters, ids, digests)
    if (facts := measured.read()) is not None:
        gate = HeadGate(**facts)
        return (_screened(exact, digests[0], packing, others) if gate.used else exact), gate
    screened = _screened(exact, digests[0], packing, others)
    states = [engine.hidden_states(SequenceSpec(tuple(ids[:-1]), n)) for n in adapters]
    gate = measure_head(exact, screened, states, torch.tensor(ids[1:]))
    if screened.copy.nbytes >= WORTH_BYTES:
        measured.write(lambda folder: asdict(gate))
    return (screened if gate.used else exact), gate


def pack_early(base: str) -> None:
    """Begin to pack the kept copy of a base's head, beside the other work of loading.

    Packing takes half a second and computes without the GIL, which imports hold.

    Args:
        base: the hash of the base's weights.
    """
    _PACKING.clear()  # of a load that failed: its copy would stay in memory
    packing = _PACKING[base] = Future()

    def pack() -> None:
        try:
            packing.set_result(_kept_copy(base))
        except BaseException as error:
            packing.set_exception(error)

    Thread(target=pack, daemon=True).start()  # it ends, and so do the threads of its products


def _screened(
    exact: ExactHead,
    base: str,
    packing: Future[Int8Matrix | None] | None,
    others: Sequence[ScreenedHead],
) -> ScreenedHead:
    """Return a screened head of these weights: another engine's, a kept one, or a new one."""
    weight = exact.linear.weight
    same = (head for head in others if head.weight.data_ptr() == weight.data_ptr())
    if head := next(same, None):
        return head
    if copy := packing.result() if packing else _kept_copy(base):
        return ScreenedHead(weight, copy)
    rows = quantize_rows(weight)

    def save(folder: Path) -> dict[str, Any]:
        save_file(rows._asdict(), folder / _ROWS)
        return {}

    if rows.codes.nbytes >= WORTH_BYTES:
        _kept_rows(base).write(save)
    return ScreenedHead(weight, Int8Matrix(rows))


def _kept_copy(base: str) -> Int8Matrix | None:
    """Return the copy of a base's head whose rows an earlier start wrote; None if there is none."""
    kept = _kept_rows(base)
    if kept.read(whole=True) is None:
        return None
    try:
        return Int8Matrix(Int8Rows(**load_file(kept.folder / _ROWS)))
    except (OSError, SafetensorError):  # another start may have deleted them meanwhile
        return None


def _kept_rows(base: str) -> DerivedFiles:
    return DerivedFiles("head", {"base": base} | _computed_by())


def _measured(
    engine: Engine, adapters: Sequence[int], ids: Sequence[int], digests: Sequence[str]
) -> DerivedFiles:
    """Return the place of the gate's measurement, which has facts and no files."""
    depends = {
        "digests": [digests[n] for n in (0, *adapters)],
        "ids": list(ids),
        "config": engine.lm.model.config.to_json_string(),
        "processor": platform.processor() + proc_file("cpuinfo").partition("\n\n")[0],
    }
    return DerivedFiles("gate", depends | _computed_by(), most=100)


def _computed_by() -> dict[str, Any]:
    """Return what the numbers depend on, beside weights and text."""
    return {
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "without": sorted(withheld()),
        "code": code_digest(__file__, lm_head.__file__, int8_matmul.__file__, q8_0.__file__),
    }
