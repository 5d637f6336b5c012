"""Text files as people have them, and rows of JSON however they are written."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import BadRow, clean, half_character, json_rows, lines_of, read_text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_a_bom_are_no_part_of_a_text(tmp_path, end, bom) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(bom + f"é{end}{end}b".encode())
    assert read_text(path) == "é\n\nb"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text".encode("utf-32"), "it is UTF-32; save it as UTF-8"),
        ("text".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("text".encode("utf-16-le"), "line 1 has a NUL"),
        ("a\nnaïve".encode("cp1252"), r"line 2 is no UTF-8 \(byte 0xef\); save the file as UTF-8"),
        (b"a\nb\0", "line 2 has a NUL, as no text does"),
        (gzip.compress(b"text"), "compressed by gzip; unpack it"),
        (bz2.compress(b"text"), "compressed by bzip2; unpack it"),
        (lzma.compress(b"text"), "compressed by xz; unpack it"),
        (b"\x28\xb5\x2f\xfd\x24", "compressed by zstd; unpack it"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "of Git LFS; get its file by git lfs pull",
        ),
        (b"PK\x03\x04\x14", "workbook or a zip archive; save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "Office document"),
        (b"%PDF-1.7", "it is a PDF"),
        (b"PAR1\x15", "it is Parquet"),
    ],
)
def test_what_is_no_text_is_refused_with_the_cure(tmp_path, content, says) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        read_text(path)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))
def test_any_utf_8_is_read_as_it_is(text) -> None:
    content = b"\xef\xbb\xbf" + text.encode()
    assert b"".join(lines_of(content)).decode() == text


ROWS = st.lists(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Z", "Cf"]), min_size=1, max_size=5),
        st.one_of(st.text(max_size=8), st.integers(), st.booleans(), st.none()),
        max_size=4,
    ),
    max_size=6,
)


@given(ROWS, st.booleans())
def test_lines_arrays_and_objects_in_a_row_are_the_same(rows, ascii_only) -> None:
    lines = "".join(f"{json.dumps(row, ensure_ascii=ascii_only)}\n" for row in rows)
    pretty = "\n\n".join(json.dumps(row, indent=2) for row in rows)
    for text in (lines, pretty, json.dumps(rows), json.dumps(rows, indent=1)):
        assert [row for _, row in json_rows(text)] == rows


def test_a_row_has_the_line_where_it_begins() -> None:
    assert list(json_rows('\n{"a": 1}\n\n{\n"a": 2}\n')) == [(2, {"a": 1}), (4, {"a": 2})]
    assert list(json_rows('[\n{"a": 1},\n {"a": 2}]\n')) == [(2, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('{"a": 1}\n{"a": \n', 2, "is no JSON (Expecting value at line 3, column 1)"),
        ("[[[" * 99_999, 1, "is no JSON (maximum recursion depth exceeded"),
        ('{"a": 1}\nx\n', 2, "is no JSON (Expecting value at column 1)"),
        ('{"a": 1}\n{"a": "x\n"}\n', 2, "is no JSON (Invalid control character at column 9)"),
        ('{"a": 1}\n{"a": "x', 2, "is no JSON (Unterminated string starting at column 7)"),
        ('{"a": 1}\n3\n', 2, "is no object"),
        ('{"a": 1, "a": 2}\n', 1, "has the key 'a' twice"),
        ('{" a": 1, "a ": 2}\n', 1, "has the key 'a' twice"),
        ('[{"a": 1},\n{"a": 2}', 2, "is the last: the file ends before its array does"),
        ('[{"a": 1}]\n[{"a": 2}]', 1, "is no JSON (the array ends before '[{\"a\": 2}]')"),
        ('{"a": ' + "9" * 5000 + "}", 1, "is no JSON (Exceeds the limit"),
    ],
)
def test_a_row_that_is_no_object_is_named(text, line, why) -> None:
    bad = [(number, row.why) for number, row in json_rows(text) if isinstance(row, BadRow)]
    assert bad[0][0] == line
    assert bad[0][1].startswith(why)


def test_lines_of_json_may_end_in_a_comma() -> None:
    rows = [(1, {"a": 1}), (2, {"a": 2}), (4, {"a": 3})]
    assert list(json_rows('{"a": 1},\n{"a": 2}, \n\n{"a": 3},\n')) == rows
    assert isinstance(list(json_rows('{"a": 1}, {"b": 2}\n'))[1][1], BadRow)


def test_a_bad_line_leaves_the_others() -> None:
    rows = list(json_rows('{"a": 1}\nx {"b": 1}\n{"a": 2}\n'))
    assert [row for _, row in rows if isinstance(row, dict)] == [{"a": 1}, {"a": 2}]
    assert [number for number, row in rows if isinstance(row, BadRow)] == [2]


def test_spaces_that_are_not_seen_are_cleaned() -> None:
    assert clean("\ufeff \u200blabel\u00a0\u2060 ") == "label"
    assert clean("a\u200bb \n") == "a\u200bb"


def test_half_a_character_is_found() -> None:
    assert half_character("a \ud83d b") == "\ud83d"
    assert half_character("a \U0001f600 b") is None
