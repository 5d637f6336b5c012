"""Machines without FBGEMM, oneDNN, bitsandbytes' kernels or /proc: each is taken away in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from bitsandbytes.nn import Params4bit

from models import WeightsError
from models.bench.subprocess_runner import resident_bytes
from models.capabilities import PARTS, SWITCH, proc_file, usable_cpus, withheld
from models.engine.layers.nf4 import dequantize

ROOT = Path(__file__).parents[2]
ENGINE = "tests/models/engine"
TESTS = (
    f"{ENGINE}/test_engine.py::test_each_row_says_what_generate_says_alone",
    f"{ENGINE}/test_engine.py::test_a_seed_draws_what_the_reference_draws",
    f"{ENGINE}/layers",
    "tests/models/test_capabilities.py::test_a_trio_in_4_bits_answers",
)
"""What is run without each part: whole texts by the engine, and every layer by itself."""


@pytest.fixture
def without(monkeypatch):
    """Return a function that takes parts away for one test."""

    def take_away(parts: str) -> None:
        monkeypatch.setenv(SWITCH, parts)
        withheld.cache_clear()

    yield take_away
    monkeypatch.undo()
    withheld.cache_clear()


@pytest.mark.skipif(bool(os.environ.get(SWITCH)), reason="runs itself")
@pytest.mark.parametrize("parts", ["fbgemm", "onednn", "bnb_kernels", ",".join(PARTS)])
def test_the_engine_runs_without(parts: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, SWITCH: parts, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def test_a_trio_in_4_bits_answers(tmp_path) -> None:
    from scripted import TEMPLATE

    from models import Prompt, Request, Sampling, Token, find_trio, open_backend

    folder = tmp_path / "Modèles de moi"  # which spaces and accents do not hinder
    folder.mkdir()
    file = tiny.write_trio(folder, TEMPLATE.read_text())
    file.write_text(file.read_text().replace('precision = "none"', 'precision = "nf4"'))
    backend = open_backend(find_trio("tiny", file))
    try:
        kinds = {type(module).__name__ for module in backend.groups[0].engine.lm.model.modules()}
        matrices = {
            type(module.matrix).__name__
            for module in backend.groups[0].engine.lm.model.modules()
            if hasattr(module, "matrix")
        }
        events = [*backend.stream(Request(Prompt("Tell me a joke"), Sampling(8)))]
    finally:
        backend.close()
    assert {event.role for event in events if isinstance(event, Token)} == {
        "base",
        "task",
        "instruct",
    }
    if "bnb_kernels" in withheld():
        assert not kinds & {"Nf4Linear", "Linear4bit"}
    if "fbgemm" in withheld():
        assert "Fp16Matrix" not in matrices
    if "onednn" in withheld():
        assert "OneDnnMatrix" not in matrices
        assert not torch.backends.mkldnn.is_available() or not torch._C._get_mkldnn_enabled()


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "scales in 8 bits"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_4_bit_weights_are_the_same_without_the_kernels(kind, nested, dtype, without) -> None:
    torch.manual_seed(0)
    for shape in ((64, 64), (33, 128), (48, 640)):
        weight = torch.randn(shape).to(dtype)
        packed = Params4bit(
            weight, requires_grad=False, quant_type=kind, blocksize=64, compress_statistics=nested
        ).to("cpu")
        without("")
        expected = dequantize(packed.data, packed.quant_state)
        without("bnb_kernels")
        values = dequantize(packed.data, packed.quant_state)
        assert values.dtype == dtype
        assert torch.equal(values, expected)


def test_without_proc_memory_is_unknown(without) -> None:
    if Path("/proc/self/status").exists():
        assert resident_bytes() > 2**20
    without("proc")
    assert proc_file("self/status") == ""
    assert resident_bytes() == 0


def test_without_affinity_all_cpus_count(without, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert usable_cpus() == 1
    without("affinity")
    assert usable_cpus() == os.cpu_count()
    without("")
    monkeypatch.delattr(os, "sched_getaffinity")  # as on Windows and macOS
    assert usable_cpus() == os.cpu_count()


def test_a_misspelt_part_is_told_with_those_known(without) -> None:
    without("fbgemm, ondnn")
    with pytest.raises(
        WeightsError, match=r"names 'ondnn'\. It takes: fbgemm, onednn, bnb_kernels"
    ):
        withheld()
