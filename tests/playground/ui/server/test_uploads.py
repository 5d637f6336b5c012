"""Uploaded files: which are taken, and how many are held."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from scripted import eventually, scripted

from models import PromptError
from playground.evaluation.tabular import columns_of
from playground.ui.server.uploads import (
    KEPT_S,
    MAX_FILES_OF_ONE,
    MAX_HELD,
    SWEEP_S,
    Uploads,
    file_names,
)
from playground.ui.tabs.evaluate.events import EvaluateFields, run_evaluation


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


def test_a_file_is_deleted_when_its_time_is_over(serve, monkeypatch) -> None:
    monkeypatch.setattr("playground.ui.page.KEPT_S", 1)
    monkeypatch.setattr("playground.ui.page.SWEEP_S", 1)
    url = serve(scripted())
    content_type, body = form("rows.csv", content=b"a,b\n" + os.urandom(8).hex().encode())
    reply = httpx.post(
        f"{url}gradio_api/upload", content=body, headers={"content-type": content_type}
    )
    (path,) = map(Path, reply.json())
    assert path.is_file()
    assert eventually(lambda: not path.exists(), within_s=10)


def test_a_set_that_has_been_deleted_is_one_line(tmp_path) -> None:
    fields = EvaluateFields([], ["zero-shot"], 4, str(tmp_path / "rows.csv"), "a", "b", "", None)
    with pytest.raises(PromptError, match=r"rows\.csv"):
        run_evaluation(fields)
    with pytest.raises(PromptError, match=r"rows\.csv"):
        columns_of(tmp_path / "rows.csv")
