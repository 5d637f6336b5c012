"""Returns memory to the system that is no longer used after loading or answering."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from models.capabilities import withheld

_ARENA_MAX = -8
"""M_ARENA_MAX of glibc's malloc.h."""


def trim_memory() -> None:
    """Make the C library return freed memory to the system, instead of keeping it for reuse."""
    if "glibc" in withheld():
        return
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


def share_one_arena() -> None:
    """Make the C library use one malloc arena for all threads from now on.

    With an arena for each thread, memory that one has freed cannot be used by another: nine answers
    take 0.1 GB more.
    """
    if "glibc" in withheld():
        return
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def remap_weights(model: nn.Module, folder: Path) -> None:
    """Memory-map a model's tensors from its files again, so that the first mapping is freed.

    Pages of a mapped file count as memory of the process once they are read, for as long as one
    tensor of the mapping lives: the embedding alone would keep the pages of all layers that became
    4-bit. Tensors that differ from those in the files stay as they are.

    Args:
        model: a model on the CPU that was loaded from the folder.
        folder: holds `.safetensors` files.
    """
    parameters = dict(model.named_parameters())
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in parameters.keys() & file.keys():
                own, stored = parameters[name], file.get_tensor(name)
                if own.dtype == stored.dtype and torch.equal(own, stored):
                    own.data = stored
