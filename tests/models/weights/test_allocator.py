"""What the process holds of files, and of what its threads have freed."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.weights.allocator import remap_weights

MAPS = Path("/proc/self/smaps")


def resident_bytes(path: Path) -> int:
    """Return the bytes of a file that this process counts as its own."""
    resident, here = 0, False
    for line in MAPS.read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            resident += 1024 * int(line.split()[1])
    return resident


@pytest.mark.skipif(not MAPS.exists(), reason="no system that tells")
def test_of_what_was_read_only_what_is_held_stays(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    stored = {name: torch.randn(1024, 1024) for name in ("kept.weight", "rounded.weight")}
    save_file(stored, path)
    model = nn.ModuleDict({n: nn.Linear(1024, 1024, bias=False) for n in ("kept", "rounded")})
    model.load_state_dict(load_file(path), assign=True)
    model["rounded"].weight = nn.Parameter(model["rounded"].weight.half())
    model["kept"].weight.sum()
    assert resident_bytes(path) > 7 << 20
    remap_weights(model, tmp_path)
    assert torch.equal(model["kept"].weight, stored["kept.weight"])
    assert torch.equal(model["rounded"].weight, stored["rounded.weight"].half())
    assert 4 << 20 <= resident_bytes(path) < 5 << 20


def test_what_no_file_holds_stays_as_it_is(tmp_path) -> None:
    save_file({"other": torch.ones(2), "bias": torch.ones(3), "weight": torch.ones(2, 2)},
              tmp_path / "model.safetensors")  # fmt: skip
    model = nn.Linear(2, 2)
    before = {
        name: (parameter.data_ptr(), parameter.clone())
        for name, parameter in model.named_parameters()
    }
    remap_weights(model, tmp_path)
    for name, parameter in model.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])


ARENAS = """
import ctypes, threading
from models.weights.allocator import share_one_arena
{first}
waits = threading.Barrier(5)
threads = [threading.Thread(target=lambda: (bytearray(99_999), waits.wait())) for _ in range(4)]
for thread in threads: thread.start()
waits.wait()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = libc.fdopen(1, b"w")
libc.malloc_info(0, ctypes.c_void_p(out)), libc.fflush(ctypes.c_void_p(out))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no such C library")
@pytest.mark.parametrize(("first", "arenas"), [("", range(2, 99)), ("share_one_arena()", (1,))])
def test_all_threads_have_their_memory_from_one_pool(first, arenas) -> None:
    command = [sys.executable, "-c", ARENAS.format(first=first)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.count("<heap nr=") in arenas
