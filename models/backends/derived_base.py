"""Loads a base, rounded to 4 bits once: later starts read what the first one wrote.

Rounding takes as long as all the rest of loading a small base, and comparing its embedding with the
8-bit blocks of its source nearly as long.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.backends.derived_head import pack_early
from models.cache.checked_files import damage, recorded_facts
from models.cache.derived import WORTH_BYTES, DerivedFiles, code_digest, stamps
from models.engine.layers import q8_0
from models.engine.layers.q8_0 import equal_q8_digest
from models.errors import WeightsError, first_line
from models.types import Precision
from models.weights import base_check, load
from models.weights.base_check import base_digest, tensor_digest
from models.weights.gguf_base import Q8_FILE
from models.weights.load import load_base, saved_precision


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What was found out about a base when it was rounded."""

    digest: str
    """Hash of all its tensors, without adapters."""
    q8_digest: str
    """Hash of the 8-bit blocks that are equal to its embedding; empty if there are none."""
    embedding_digest: str
    """Hash of that embedding."""


class LoadedBase(NamedTuple):
    """A base without adapters."""

    model: Any
    facts: BaseFacts
    mapped: Path | None
    """The folder whose files hold tensors of it among others that are no longer needed."""
    derived: DerivedFiles | None
    """The files that it was read from, if an earlier start derived them."""


def load_rounded(
    folder: Path,
    precision: Precision,
    device: torch.device,
    dtype: torch.dtype,
    read_derived: bool = True,
) -> LoadedBase:
    """Load the base in a folder, from the files of an earlier start if there are any.

    Args:
        folder: the base's.
        precision: what its linear layers are rounded to.
        device: where it computes.
        dtype: of what is not rounded.
        read_derived: whether files of an earlier start may be read.

    Raises:
        WeightsError: it is damaged or incomplete, or its architecture is unknown.
    """
    derived = _derived(folder, precision, device, dtype)
    if derived and read_derived and (base := _read(derived, precision, device, dtype)):
        return base
    if recorded_facts(folder) is not None and (fault := damage(folder, whole=True)):
        raise WeightsError(f"{fault}. Delete {folder}: the next start prepares the base again.")
    model = load_base(folder, precision, device, dtype)
    q8_digest = equal_q8_digest(model, folder / Q8_FILE) if device.type == "cpu" else ""
    embedding = model.get_input_embeddings().weight
    embedding_digest = tensor_digest(embedding).hex() if q8_digest else ""
    facts = BaseFacts(base_digest(model), q8_digest, embedding_digest)

    def save(place: Path) -> dict[str, Any]:
        model.save_pretrained(place)
        return asdict(facts)

    if derived:
        derived.write(save)
    return LoadedBase(model, facts, folder if derived else None, None)


def _read(
    derived: DerivedFiles, precision: Precision, device: torch.device, dtype: torch.dtype
) -> LoadedBase | None:
    """Return the base that an earlier start rounded; None if its files are not there."""
    if (facts := derived.read()) is None:
        return None
    pack_early(facts["digest"])
    try:
        model = load_base(derived.folder, precision, device, dtype)
    except (WeightsError, OSError) as error:  # another start may have deleted them meanwhile
        derived.discard(first_line(error).rstrip("."))
        return None
    return LoadedBase(model, BaseFacts(**facts), derived.folder, derived)


def _derived(
    folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype
) -> DerivedFiles | None:
    """Return the place of the rounded base; None for one that is not rounded at load."""
    if precision != "nf4" or device.type != "cpu" or saved_precision(folder):
        return None
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json"), folder / Q8_FILE]
    files = sorted(path for path in files if path.is_file())
    if sum(path.stat().st_size for path in files) < WORTH_BYTES:
        return None
    return DerivedFiles(
        "base",
        {
            "folder": str(folder),
            "files": stamps(files),
            "dtype": str(dtype),
            "code": code_digest(__file__, load.__file__, base_check.__file__, q8_0.__file__),
        },
    )
