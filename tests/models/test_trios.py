"""Trio files."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import pytest

from models import ROLES, SHIPPED, TRIOS_VARIABLE, Pin, TrioError, find_trio, read_trios
from models.trios import read_pin

GOOD = """
[trio.mine]
title = "Mine"
[trio.mine.base]
name = "b"
base = "owner/name@abc123"
[trio.mine.task]
name = "t"
base = "owner/name@abc123"
adapter = "./task"
[trio.mine.instruct]
name = "i"
base = "owner/other"
reads = "chat"
"""


def write(folder, text):
    folder.mkdir(exist_ok=True)
    path = folder / "trios.toml"
    path.write_text(text)
    return path


def test_the_shipped_trio_differs_in_nothing_but_its_adapters() -> None:
    trio = find_trio()
    assert [variant.role for variant in trio.variants] == list(ROLES)
    sources = [variant.source for variant in trio.variants]
    assert len({source.base for source in sources}) == 1
    assert [source.adapter is None for source in sources] == [True, False, False]


def test_a_folder_is_relative_to_the_file(tmp_path) -> None:
    trio = find_trio("mine", write(tmp_path, GOOD))
    task = trio.variants[1].source
    assert task.adapter.source == str((tmp_path / "task").resolve())
    assert (task.base.source, task.base.revision) == ("owner/name", "abc123")
    assert trio.precision == "nf4"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('adapter = "./task"', 'adaptor = "./task"', r"trio\.mine\.task: unknown key 'adaptor'"),
        ("[trio.mine]", '[trio.mine]\nprecison = "nf4"', r"trio\.mine: unknown key 'precison'"),
        ("[trio.mine]", '[trio.mine]\nprecision = "int3"', "one of: nf4, none"),
        ("[trio.mine]", "[trio.mine]\nmax_context = true", "max_context is True"),
        ('reads = "chat"', 'reads = "speech"', "one of: text, chat"),
        ('name = "b"', "name = 3", "'name' is 3, not text"),
        ('name = "b"', "", "'name' is missing"),
        ('base = "owner/other"', "", "key 'base' is missing"),
        ("[trio.mine.task]", "[trio.mine.tusk]", "unknown key 'tusk'"),
        ("[trio.mine]", "[trio.mine", "cannot be read as TOML"),
        ("[trio.mine]", "[trios.mine]", "unknown key 'trios'"),
    ],
)
def test_a_mistake_says_where_it_is_and_what_would_do(tmp_path, old, new, says) -> None:
    with pytest.raises(TrioError, match=says) as caught:
        read_trios(write(tmp_path, GOOD.replace(old, new, 1)))
    assert "trios.toml" in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_an_unknown_trio_is_answered_with_the_known_ones() -> None:
    with pytest.raises(TrioError, match=r"no trio 'nope' in .*trios\.toml\. There are: gemma-270m"):
        find_trio("nope")


def test_trios_of_further_files_stand_beside_those_that_ship(tmp_path, monkeypatch) -> None:
    paths = []
    for name in ("one", "two"):
        path = write(tmp_path / name, GOOD.replace("trio.mine", f"trio.{name}"))
        paths.append(str(path))
    monkeypatch.setenv(TRIOS_VARIABLE, os.pathsep.join(paths))
    assert list(read_trios())[-2:] == ["one", "two"]
    assert find_trio().name == "gemma-270m"
    assert find_trio("two").name == "two"
    with pytest.raises(TrioError, match=rf"and {paths[0]} and {paths[1]}\. There are: .*, one"):
        find_trio("three")
    monkeypatch.setenv(TRIOS_VARIABLE, os.pathsep.join([*paths, paths[0], str(SHIPPED)]))
    assert list(read_trios())[-2:] == ["one", "two"]  # a file that is named twice is read once
    (tmp_path / "two" / "trios.toml").write_text(GOOD.replace("trio.mine", "trio.ablation"))
    with pytest.raises(TrioError, match=r"trio\.ablation has the name of a trio in .*trios\.toml"):
        read_trios()
    monkeypatch.setenv(TRIOS_VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(TrioError, match=r"There is no trio file .*none\.toml"):
        find_trio()


def test_paths_in_a_further_file_are_relative_to_it(tmp_path, monkeypatch) -> None:
    path = write(tmp_path / "far", GOOD.replace("trio.mine", "trio.far"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TRIOS_VARIABLE, str(Path("far") / path.name))
    adapter = find_trio("far").variants[1].weights.adapter
    assert adapter.source == str(tmp_path / "far" / "task")


def test_same_base_is_said_by_hand_of_an_adapter_only(tmp_path) -> None:
    def read(instruct: str):
        path = tmp_path / "trios.toml"
        path.write_text(
            '[trio.t]\nbase = { name = "b", base = "a/b" }\ntask = { name = "t", base = "a/b" }\n'
            f"instruct = {{ name = 'i', {instruct} }}\n"
        )
        return find_trio("t", path).variants[2].weights

    assert read('base = "a/b", adapter = "a/c", same_base = true').same_base
    assert not read('base = "a/b", adapter = "a/c"').same_base
    with pytest.raises(TrioError, match="same_base is 'yes'; it must be true or false"):
        read('base = "a/b", adapter = "a/c", same_base = "yes"')
    with pytest.raises(TrioError, match="'same_base' is of an adapter, and there is none"):
        read('base = "a/b", same_base = true')
    with pytest.raises(TrioError, match="has an endpoint and 'same_base'"):
        read('endpoint = "http://h/v1", model = "m", same_base = true')


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_any_editor_is_read(tmp_path, bom, end) -> None:
    path = tmp_path / "trios.toml"
    path.write_bytes((bom + GOOD.replace("\n", end)).encode())
    assert read_trios(path)["mine"] == find_trio("mine", write(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GOOD.encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (GOOD.replace("Mine", "Möve").encode("cp1252"), r"line 3 is no UTF-8 \(byte 0xf6\)"),
    ],
)
def test_another_encoding_is_named(tmp_path, content, says) -> None:
    path = tmp_path / "trios.toml"
    path.write_bytes(content)
    with pytest.raises(TrioError, match=rf"^trios\.toml: cannot be read as TOML: {says}"):
        read_trios(path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/models/base", "home/models/base"),
        ("~", "home"),
        ("./base", "base"),
        (".\\base", "base"),
        ("..\\w\\base", "../w/base"),
        ("../w/m.gguf", "../w/m.gguf"),
        ("models/llama/base", "models/llama/base"),
        ("models\\base", "models/base"),
        ("C:\\models\\base", "C:\\models\\base"),
        ("C:/models/base", "C:/models/base"),
        ("/models/base", "/models/base"),
    ],
)
def test_a_path_is_a_folder_however_it_is_written(tmp_path, monkeypatch, text, path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read_pin(text, tmp_path) == Pin(str((tmp_path / path).resolve()))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("C:\\My models\\base", "C:\\My models\\base"),
        ("D:/models/base", "D:\\models\\base"),
        (".\\a base", "E:\\trio files\\a base"),
        ("./a base", "E:\\trio files\\a base"),
        ("..\\base", "E:\\trio files\\..\\base"),
        ("\\\\server\\share\\base", "\\\\server\\share\\base"),
    ],
)
def test_windows_joins_a_path_to_its_drive(monkeypatch, text, path) -> None:
    monkeypatch.setattr(PureWindowsPath, "resolve", lambda self: self, raising=False)
    assert read_pin(text, PureWindowsPath("E:\\trio files")) == Pin(str(PureWindowsPath(path)))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/me/my adapters/mine", "mine"),
        ("C:\\Users\\me\\my adapter", "my adapter"),
        ("owner/name", "name"),
        ("gpt2", "gpt2"),
        ("package:gemma", "package:gemma"),
    ],
)
def test_a_pin_has_the_name_of_its_folder_on_any_system(source, name) -> None:
    assert Pin(source, "abc").name == name


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        ("owner/name", Pin("owner/name")),
        ("owner/name@abc", Pin("owner/name", "abc")),
        ("owner/name@refs/pr/1", Pin("owner/name", "refs/pr/1")),
        ("gpt2", Pin("gpt2")),
        ("package:gemma@abc", Pin("package:gemma", "abc")),
    ],
)
def test_an_id_is_no_folder(tmp_path, text, pin) -> None:
    assert read_pin(text, tmp_path) == pin


def test_a_trio_may_name_its_folders_in_any_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    texts = {
        "tilde": ("~/models/base", "/home/me/models/base"),
        "windows": ("..\\models\\base", str(tmp_path.parent / "models" / "base")),
        "gguf": ("../w/m.gguf", str(tmp_path.parent / "w" / "m.gguf")),
        "bare": ("w/base", "w/base"),
    }
    lines = [
        f"[trio.{name}]\n"
        + "".join(f"{role} = {{ name = 'x', base = '{text}' }}\n" for role in ROLES)
        for name, (text, _) in texts.items()
    ]
    trios = read_trios(write(tmp_path, "".join(lines)))
    for name, (_, path) in texts.items():
        assert {variant.weights.base for variant in trios[name].variants} == {Pin(path)}


@pytest.mark.parametrize("text", ["C:\\models\\base", "C:\\Users\\me", ".\\base"])
def test_a_path_in_double_quotes_is_told_of_single_ones(tmp_path, text) -> None:
    with pytest.raises(TrioError, match=r"A path with backslashes stands in single quotes\.$"):
        read_trios(write(tmp_path, GOOD.replace("./task", text)))
