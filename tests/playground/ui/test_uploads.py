"""Uploaded files: which are taken, and how many are held."""

from __future__ import annotations

import httpx
import pytest

from playground.ui.uploads import (
    KEPT_S,
    MAX_FILES_OF_ONE,
    MAX_HELD,
    SWEEP_S,
    Uploads,
    file_names,
)


def form(*names: str, content: bytes = b"a,b\n1,2\n") -> tuple[str, bytes]:
    request = httpx.Request("POST", "http://a", files=[("files", (n, content)) for n in names])
    return request.headers["content-type"], request.read()


def test_names_are_those_of_the_parts_and_not_of_their_content() -> None:
    assert file_names(*form("rows.csv", content=b'filename="rows.exe"')) == ["rows.csv"]
    assert file_names(*form("a.csv", "b.json")) == ["a.csv", "b.json"]
    assert file_names("text/plain", b"x") == []


@pytest.mark.parametrize("name", ["rows.exe", "rows", "rows.csv.html", "rows.csv\x00.sh"])
def test_other_kinds_are_refused(name) -> None:
    assert "A file is one of .csv" in Uploads().admit("here", *form(name))


def test_files_are_held_for_an_hour_and_counted_by_address_and_in_all() -> None:
    now = [0.0]
    uploads = Uploads(lambda: now[0])
    answers = [uploads.admit("here", *form("a.CSV")) for _ in range(MAX_FILES_OF_ONE + 1)]
    assert answers[:-1] == [""] * MAX_FILES_OF_ONE
    assert "files of this address are held" in answers[-1]
    large = form("a.csv", content=b"x" * (7 << 20))
    refusals = [uploads.admit(f"10.0.0.{n}", *large) for n in range(80)]
    assert refusals.index("512 MB of files are held. Try again in an hour.") == MAX_HELD // (
        7 << 20
    )
    now[0] = KEPT_S + SWEEP_S + 1
    assert uploads.admit("here", *form("a.csv")) == ""
