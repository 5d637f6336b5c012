"""Loads a base, rounded to 4 bits once: later starts read what the first one wrote.

Rounding takes as long as all the rest of loading a small base, and comparing its embedding with the
8-bit blocks of its source nearly as long.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.cache.derived import WORTH_BYTES, DerivedFiles, code_digest, stamps
from models.engine.layers import q8_0
from models.engine.layers.q8_0 import equal_q8_digest
from models.types import Precision
from models.weights import load
from models.weights.base_check import base_digest
from models.weights.fetch import Q8_FILE
from models.weights.load import load_base, saved_precision


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What was found out about a base when it was rounded."""

    digest: str
    """Hash of all its tensors, without adapters."""
    q8_digest: str
    """Hash of the 8-bit blocks that are equal to its embedding; empty if there are none."""


class LoadedBase(NamedTuple):
    """A base without adapters."""

    model: Any
    facts: BaseFacts
    mapped: Path | None
    """The folder whose files hold tensors of it among others that are no longer needed."""
    derived: DerivedFiles | None
    """The files that it was read from, if an earlier start derived them."""


def load_rounded(
    folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype
) -> LoadedBase:
    """Load the base in a folder, from the files of an earlier start if there are any.

    Raises:
        WeightsError: it is damaged or incomplete, or its architecture is unknown.
    """
    derived = _derived(folder, precision, device, dtype)
    if derived and (facts := derived.read()) is not None:
        model = load_base(derived.folder, precision, device, dtype)
        return LoadedBase(model, BaseFacts(**facts), derived.folder, derived)
    model = load_base(folder, precision, device, dtype)
    q8_digest = equal_q8_digest(model, folder / Q8_FILE) if device.type == "cpu" else ""
    facts_now = BaseFacts(base_digest(model), q8_digest)
    if derived:
        derived.write(model.save_pretrained, asdict(facts_now))
    return LoadedBase(model, facts_now, folder if derived else None, None)


def _derived(
    folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype
) -> DerivedFiles | None:
    """Return the folder of the rounded base; None for one that is not rounded at load."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json"), folder / Q8_FILE])
    stamped = stamps([path for path in files if path.is_file()])
    if precision != "nf4" or device.type != "cpu" or saved_precision(folder):
        return None
    if sum(size for _, size, _ in stamped) < WORTH_BYTES:
        return None
    return DerivedFiles(
        "base",
        {
            "folder": str(folder),
            "files": stamped,
            "dtype": str(dtype),
            "code": code_digest(__file__, load.__file__, q8_0.__file__),
        },
    )
