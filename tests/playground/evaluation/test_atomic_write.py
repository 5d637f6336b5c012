"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os

import pytest

from models import PromptError
from playground.evaluation.atomic_write import write_whole


def test_half_a_character_is_read_back_from_its_escape(tmp_path) -> None:
    path = tmp_path / "x.json"
    write_whole(path, json.dumps({"text": "é \ud83d"}, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "é \ud83d"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_ends_the_writing_leaves_the_earlier_file_alone(tmp_path, monkeypatch, error) -> None:
    path = tmp_path / "x.json"
    write_whole(path, "1")

    def ended(*paths):
        raise error

    monkeypatch.setattr(os, "replace", ended)
    with pytest.raises(PromptError if error is OSError else error):
        write_whole(path, "2")
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert path.read_text() == "1"


def test_a_name_that_no_file_can_have_is_one_line(tmp_path) -> None:
    with pytest.raises(PromptError, match="cannot be written"):
        write_whole(tmp_path / "a\0b.json", "1")
