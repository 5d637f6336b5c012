"""Rows of one's own that a recipe reads: as people have them, or one line that says why not."""

from __future__ import annotations

import gzip
import json

import pytest

from models import WeightsError, tune
from models.tuning.datasets import read
from models.tuning.raw_example import RawExample
from models.tuning.recipe import Source

ROW = {"instruction": "Say it.", "input": "the sea", "output": "salt — é", "method": "title"}
LINE = json.dumps(ROW)


def rows(folder, content: bytes, reader="rows", name="rows.jsonl") -> list[RawExample]:
    (folder / name).write_bytes(content)
    return list(read(Source(reader, name, "its home", "a licence", "someone"), folder))


@pytest.mark.parametrize(
    "content",
    [
        f"{LINE}\n".encode(),
        b"\xef\xbb\xbf" + json.dumps(ROW, ensure_ascii=False).encode(),
        f"\r\n{LINE}\r\n\r\n".encode(),
        json.dumps([ROW]).encode(),
        json.dumps(ROW, indent=2).encode(),
    ],
)
def test_rows_are_read_however_they_are_written(tmp_path, content) -> None:
    example = RawExample("title", "Say it.", "the sea", "salt — é")
    assert rows(tmp_path, content) == [example]
    assert rows(tmp_path, gzip.compress(content), name="rows.jsonl.gz") == [example]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{LINE}\n{{}}\n", r"line 2: input is None, no text; the row has: \."),
        (LINE.replace("output", "answer"), "line 1: output is None, no text; the row has: instr"),
        (LINE.replace('"the sea"', "null"), "line 1: input is None, no text"),
        (LINE.replace('"Say it."', "3"), "line 1: instruction is 3, no text"),
        (LINE.replace("the sea", "the \\ud83d"), r"line 1: input has half a character"),
        (LINE + "\n" + LINE[:-9], "line 2 is no JSON"),
        ("3", "line 1 is no object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, content, says) -> None:
    with pytest.raises(WeightsError, match=rf"rows\.jsonl: {says}") as caught:
        rows(tmp_path, content.encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LINE.encode("utf-16"), "cannot be read: it is UTF-16"),
        (json.dumps(ROW, ensure_ascii=False).replace("—", "").encode("cp1252"), "is no UTF-8"),
        (LINE.encode() + b"\0", "has a NUL"),
    ],
)
def test_a_file_in_another_encoding_is_refused(tmp_path, content, says) -> None:
    with pytest.raises(WeightsError, match=says):
        rows(tmp_path, content)


def test_a_passage_without_a_text_is_named(tmp_path) -> None:
    with pytest.raises(WeightsError, match="line 1: text is None, no text; the row has: content"):
        rows(tmp_path, b'{"content": "x"}', "passages")


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        ("dolly", b'{"instruction": "x"}'),
        ("dolly", b"not json"),
        ("superni", b'{"task": 3}'),
        ("seed", b"[]"),
        ("clinc", b"{}"),
    ],
)
def test_a_damaged_public_set_is_answered_with_its_home(tmp_path, reader, content) -> None:
    with pytest.raises(WeightsError, match=r"cannot be read \(\w+: .*\)\. Its public home: its h"):
        rows(tmp_path, content, reader)


def test_a_folder_that_cannot_be_written_is_found_first(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        next(tune("instruct", tmp_path, tmp_path / "file" / "out"))
