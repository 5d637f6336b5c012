"""What the process holds of what loading and answering used: as little as can be."""

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
    """Have the C library return to the system what was freed; it holds it for the next to ask."""
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)


def share_one_arena() -> None:
    """Have the C library serve all threads that are yet to ask from one pool of memory.

    Else each has its own, and what one has freed another cannot have: 0.1 GB more for nine answers.
    """
    with suppress(AttributeError, OSError, TypeError):  # not every C library can
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def map_anew(model: nn.Module, folder: Path) -> None:
    """Take what a model holds as its files do from them again, so that what else was read goes.

    What is mapped from a file counts as the process's once it was read, and stays as long as one
    tensor of the mapping lives: for one embedding, all the layers that were rounded to 4 bits.

    Args:
        model: on the CPU, loaded from the folder.
        folder: of `.safetensors` files.
    """
    held = dict(model.named_parameters())
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in held.keys() & file.keys():
                own, stored = held[name], file.get_tensor(name)
                if own.dtype == stored.dtype and torch.equal(own, stored):
                    own.data = stored
