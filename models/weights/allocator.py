"""The process's memory: what loading and answering used goes back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

_ARENA_MAX = -8
"""M_ARENA_MAX of glibc's malloc.h."""


def give_back() -> None:
    """Have the C library return freed memory to the system; it would keep it for later use."""
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


def share_one_arena() -> None:
    """Have the C library serve all threads, from now on, from one arena.

    Else each thread has its own, and memory that one has freed another cannot use: 0.1 GB more for
    nine answers.
    """
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def map_anew(model: nn.Module, folder: Path) -> None:
    """Map the tensors that a model holds as its files do anew, so that the old mapping is freed.

    Pages of a mapped file count as the process's once they were read, and stay as long as one
    tensor of the mapping lives: for one embedding, those of all layers that became 4-bit.

    Args:
        model: on the CPU, loaded from the folder.
        folder: of `.safetensors` files.
    """
    parameters = dict(model.named_parameters())
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in parameters.keys() & file.keys():
                own, stored = parameters[name], file.get_tensor(name)
                if own.dtype == stored.dtype and torch.equal(own, stored):
                    own.data = stored
