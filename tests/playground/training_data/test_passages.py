"""Texts as people have them, cut into passages."""

from __future__ import annotations

import json

import pytest

from models import PromptError
from playground.training_data.passages import Passage, read_passages, sentences

FERRY = (
    "The ferry leaves at half past six in the morning and it carries cars. It returns at nine in "
    "the evening when the sea is calm enough for it."
)
TEXT = f"# Notes\n\n{FERRY}\n"
CHINESE = "渡轮早上六点半出发,载着汽车。晚上九点返回,如果海面平静的话。"


def read(tmp_path, content, name="x.md") -> list[Passage]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_passages([path])


@pytest.mark.parametrize(
    "content", [TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n"), TEXT.replace("\n", "\r")]
)
def test_a_text_of_any_editor_is_read(tmp_path, content) -> None:
    assert read(tmp_path, content) == [Passage(FERRY, "Notes", "x.md:3")]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.ndjson"])
def test_texts_in_json_are_read_as_lines_or_as_an_array(tmp_path, name) -> None:
    rows = [{"text": FERRY}, {"text": FERRY}]
    lines = "\ufeff" + "".join(f"{json.dumps(row)}\r\n" for row in rows)
    assert [passage.source for passage in read(tmp_path, lines, name)] == [f"{name}:1", f"{name}:2"]
    array = read(tmp_path, json.dumps(rows), name)
    assert array == [Passage(FERRY, "", f"{name}:1")] * 2


def test_characters_are_words_in_a_script_without_spaces(tmp_path) -> None:
    assert read(tmp_path, f"# 笔记\n\n{CHINESE}\n") == [Passage(CHINESE, "笔记", "x.md:3")]
    assert sentences(CHINESE) == [
        "渡轮早上六点半出发,载着汽车。",
        "晚上九点返回,如果海面平静的话。",
    ]
    assert sentences("Été. Évian. ok. 3.5") == ["Été.", "Évian. ok.", "3.5"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cp1252.md", TEXT.replace("e", "é").encode("cp1252"), "line 1 is no UTF-8 (byte 0xe9)"),
        ("utf16.md", TEXT.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        ("nul.md", TEXT + "\0", "line 4 has a NUL"),
        ("pdf.pdf", b"%PDF-1.4\n%\xe2\xe3", "it is a PDF; save its text as UTF-8"),
        ("empty.md", "", "There is no passage of 25 words or more"),
        ("rows.jsonl", '{"content": "x"}\n', 'line 1: is no object with a "text"; it has: content'),
        ("bad.jsonl", "x\n", "line 1: is no JSON (Expecting value at column 1); it must be an"),
        ("half.jsonl", '{"text": "a \\ud83d"}', "line 1: text has half a character"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_read_is_one_line(tmp_path, name, content, says) -> None:
    with pytest.raises(PromptError) as caught:
        read(tmp_path, content, name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
