"""The base is prepared once, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from models import Pin, WeightsError, find_trio
from models.cache.checked_files import RECORD, damage, record_files, recorded_facts
from models.weights.fetch import base_folder
from models.weights.gguf_base import Q8_FILE

WEIGHTS = os.urandom(33 << 20)
ROOT = Path(__file__).parents[3]
PREPARE = (
    "from models import find_trio; from models.weights.fetch import base_folder;"
    "print(base_folder(find_trio().variants[0].source.base, lambda p: print(p.step, flush=True)))"
)


def quiet(progress) -> None:
    pass


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A package in two parts that holds no GGUF at all."""
    for number in (1, 2):
        folder = tmp_path / f"broken_part{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise RuntimeError('its code need not run')")
        (folder / f"x.gguf.part0{number - 1}").write_bytes(b"half %d" % number)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("models.weights.fetch._CHECKED", Forgetful())
    return tmp_path / "cache"


class Forgetful(set):
    """Every call is that of a new process."""

    def add(self, folder) -> None:
        pass


def test_a_package_that_is_not_installed_is_named_with_its_cure(parts) -> None:
    with pytest.raises(WeightsError, match="Run: pip install not-there"):
        base_folder(Pin("package:not_there"), quiet)


def test_other_bytes_than_the_pinned_ones_are_refused_and_leave_nothing(parts) -> None:
    digest = hashlib.sha256(b"half 1half 2").hexdigest()
    with pytest.raises(WeightsError, match=f"has sha256 {digest}, not 0000"):
        base_folder(Pin("package:broken", "0000"), quiet)
    assert [path.suffix for path in parts.iterdir()] == [".lock"]


def test_a_folder_of_an_older_form_is_made_anew_and_stays_until_it_is(parts, monkeypatch) -> None:
    old = parts / "broken-unpinned"
    old.mkdir(parents=True)
    (old / "older").touch()
    record_files(old, {"form": 2})
    with pytest.raises(WeightsError, match=r"no base that can be read: .* not a GGUF file"):
        base_folder(Pin("package:broken"), quiet)
    assert (old / "older").is_file()

    def convert(folder, report) -> None:
        (folder / "model.safetensors").write_bytes(b"made")

    monkeypatch.setattr("models.weights.fetch.convert", convert)
    assert base_folder(Pin("package:broken"), quiet) == old
    assert (old / "model.safetensors").read_bytes() == b"made"
    assert not (old / "older").exists()
    monkeypatch.undo()
    monkeypatch.setenv("TRIPTYCH_CACHE", str(parts))
    assert base_folder(Pin("package:broken"), quiet) == old  # and not once more


@pytest.mark.parametrize("what", ["missing", "zeros", "longer", "record"])
def test_a_prepared_base_that_is_damaged_is_told_and_made_anew(
    parts, monkeypatch, caplog, what
) -> None:
    made = []

    def convert(folder, report) -> None:
        made.append(folder)
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(WEIGHTS)

    monkeypatch.setattr("models.weights.fetch.convert", convert)
    folder = base_folder(Pin("package:broken"), quiet)
    assert base_folder(Pin("package:broken"), quiet) == folder
    assert len(made) == 1
    weights = folder / "model.safetensors"
    if what == "missing":
        (folder / "tokenizer.json").unlink()
    elif what == "zeros":  # in a place that is not among the samples
        weights.write_bytes(WEIGHTS[:300_000] + bytes(4096) + WEIGHTS[304_096:])
    elif what == "longer":
        weights.write_bytes(WEIGHTS + b"x")
    else:
        (folder / RECORD).write_text("")
    assert base_folder(Pin("package:broken"), quiet) == folder
    assert len(made) == 2
    assert weights.read_bytes() == WEIGHTS
    assert ("The base is prepared again" in caplog.text) == (what != "record")


def test_a_base_that_is_not_pinned_follows_its_package(parts, monkeypatch) -> None:
    made = []

    def convert(folder, report) -> None:
        made.append((folder / "base.gguf").read_bytes())

    monkeypatch.setattr("models.weights.fetch.convert", convert)
    for _ in range(2):
        base_folder(Pin("package:broken"), quiet)
    part = parts.parent / "broken_part2" / "data" / "x.gguf.part01"
    part.write_bytes(b"another half")
    for _ in range(2):
        base_folder(Pin("package:broken"), quiet)
    assert made == [b"half 1half 2", b"half 1another half"]
    shutil.rmtree(part.parent.parent)
    shutil.rmtree(parts.parent / "broken_part1")
    base_folder(Pin("package:broken"), quiet)  # without its package it stays what it was
    assert len(made) == 2


def test_a_full_disk_is_told_as_such(parts, monkeypatch) -> None:
    def convert(folder, report) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("models.weights.fetch.convert", convert)
    with pytest.raises(WeightsError, match=r"No space left on device.* with 2 GB free"):
        base_folder(Pin("package:broken"), quiet)
    assert [path.suffix for path in parts.iterdir()] == [".lock"]


def test_a_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        base_folder(Pin(str(tmp_path)), quiet)


def start(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE],
        cwd=ROOT,
        env={**os.environ, "TRIPTYCH_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.trio
def test_a_killed_start_leaves_nothing_and_two_at_once_do_the_work_once(tmp_path) -> None:
    with start(tmp_path) as first:
        for line in first.stdout:
            if line.startswith("De-quantising"):
                break
        time.sleep(1)
        first.send_signal(signal.SIGKILL)
    assert list(tmp_path.glob("*.partial-*"))
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=600)[0].splitlines() for process in both]
    assert outputs[0][-1] == outputs[1][-1]
    assert sum("De-quantising the base" in lines for lines in outputs) == 1
    assert not list(tmp_path.glob("*.partial-*"))
    folder = Path(outputs[0][-1])
    facts = recorded_facts(folder)
    assert facts["source_sha256"] == find_trio().variants[0].source.base.revision
    assert damage(folder, whole=True) == ""
    assert (folder / Q8_FILE).is_file()  # its embedding came in blocks of 8 bits
