"""Files that are derived from others: kept, checked, made again where anything changed."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from models.cache.checked_files import RECORD, damage, record_files
from models.cache.derived import DerivedFiles, code_digest, stamps

SMALL, LARGE = b"a tokenizer", os.urandom(33 << 20)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "derived"


def write(folder: Path) -> dict[str, str]:
    (folder / "small").write_bytes(SMALL)
    (folder / "blocks").mkdir()
    (folder / "blocks" / "large").write_bytes(LARGE)
    return {"digest": "abc"}


def derive(depends_on=1, most=3) -> DerivedFiles:
    derived = DerivedFiles("kind", {"on": depends_on}, most)
    derived.write(write)
    return derived


def test_what_was_written_is_read_with_its_facts_and_only_under_its_key() -> None:
    assert DerivedFiles("kind", {"on": 1}).read() is None
    folder = derive().folder
    again = DerivedFiles("kind", {"on": 1})
    assert again.read() == {"digest": "abc"}
    assert again.folder == folder
    assert (folder / "blocks" / "large").read_bytes() == LARGE
    assert DerivedFiles("kind", {"on": 2}).read() is None
    assert DerivedFiles("other", {"on": 1}).read() is None


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ("small", "does not hold what was written"),
        ("blocks/large", "does not hold what was written"),
        ("cut", "has 1000 bytes instead of"),
        ("missing", "cannot be read: No such file"),
        ("record", "cannot be read"),
        ("list", "cannot be read"),
        ("digit", "cannot be read"),
    ],
)
def test_what_is_damaged_is_told_deleted_and_made_again(part, what, caplog) -> None:
    derived = derive()
    path = derived.folder / {"missing": "small", "cut": "blocks/large"}.get(part, part)
    if part in ("record", "list", "digit"):
        written = (derived.folder / RECORD).read_text().replace("abc", "abd")
        damaged = {"record": "{", "list": "[]", "digit": written}[part]
        (derived.folder / RECORD).write_text(damaged)
    elif part == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[:4096] = bytes(4096)[: len(data)]
        path.write_bytes(data[:1000] if part == "cut" else data)
    assert derived.read() is None
    assert what in caplog.text
    assert "made again" in caplog.text
    assert not derived.folder.exists()
    assert derive().read()


def test_one_zeroed_block_in_a_large_file_is_found_where_it_is_read_whole() -> None:
    derived = derive()
    path = derived.folder / "blocks" / "large"
    data, written = bytearray(LARGE), path.stat()
    data[300_000:304_096] = bytes(4096)
    path.write_bytes(data)
    assert "does not hold" in damage(derived.folder)  # it was changed since
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert damage(derived.folder) == ""
    assert "does not hold" in damage(derived.folder, whole=True)
    assert derived.read(whole=True) is None


def test_the_last_used_are_kept_and_what_was_left_half_written_goes(cache) -> None:
    for number in (1, 2, 3):
        derive(number)
        os.utime(DerivedFiles("kind", {"on": number}).folder, (number, number))
    (cache / "kind" / "partial-new").mkdir()
    (cache / "kind" / "partial-old").mkdir()
    hours_ago = time.time() - 7200
    os.utime(cache / "kind" / "partial-old", (hours_ago, hours_ago))
    assert DerivedFiles("kind", {"on": 1}).read()  # used just now
    derive(4)
    kept = [number for number in (1, 2, 3, 4) if DerivedFiles("kind", {"on": number}).read()]
    assert kept == [1, 3, 4]
    assert {path.name for path in (cache / "kind").glob("partial-*")} == {"partial-new"}


def test_a_cache_that_cannot_be_written_is_told_and_costs_nothing_else(cache, caplog) -> None:
    def full(folder: Path) -> dict[str, str]:
        write(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    derived = DerivedFiles("kind", {"on": 1})
    derived.write(full)
    assert "cannot be written: No space left on device" in caplog.text
    assert derived.read() is None
    assert [*(cache / "kind").iterdir()] == []


def test_a_cache_below_a_file_is_told(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "file" / "cache"))
    derive()
    assert "cannot be written: Not a directory" in caplog.text


def test_keys_follow_files_and_code(tmp_path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = stamps([path])
    code = code_digest(str(path))
    path.write_bytes(b"two")
    os.utime(path, ns=(0, before[0][2] + 1))
    assert stamps([path]) != before
    os.utime(path, ns=(0, before[0][2]))  # as an image whose times are all the same
    assert stamps([path]) != before
    assert code_digest(str(path)) != code


def test_a_record_says_nothing_of_itself(tmp_path) -> None:
    (tmp_path / "small").write_bytes(SMALL)
    record_files(tmp_path, {})
    record_files(tmp_path, {"again": True})
    assert damage(tmp_path, whole=True) == ""


def test_a_record_of_another_version_is_none(tmp_path, monkeypatch) -> None:
    (tmp_path / "small").write_bytes(SMALL)
    monkeypatch.setattr("models.cache.checked_files._FORM", 0)
    record_files(tmp_path, {})
    monkeypatch.undo()
    assert "cannot be read" in damage(tmp_path)


def test_what_a_parallel_start_wrote_first_stays() -> None:
    first = derive()
    at = (first.folder / RECORD).stat().st_ino
    derive()
    assert (first.folder / RECORD).stat().st_ino == at
