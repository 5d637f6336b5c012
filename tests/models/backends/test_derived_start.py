"""A second start reads what the first derived, answers the same, and believes no damaged file."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
import tiny
from safetensors.torch import load_file, save_file
from scripted import TEMPLATE

from models import Prompt, Request, Sampling, Token, find_trio, open_backend
from models.backends import derived_base, derived_head
from models.cache.checked_files import record_files, recorded_facts
from models.engine.layers.packed_matmul import has_fbgemm
from models.weights import load
from models.weights.tokenizer import derived_tokenizer, tokenizer_files

PROMPT = Prompt("To boil an egg, put it into water and")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Open a trio whose base is worth keeping; return all that it answers and says of itself."""
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    for module in (derived_base, derived_head):
        monkeypatch.setattr(module, "WORTH_BYTES", 0)
    monkeypatch.setattr(tokenizer_files, "_WORTH_BYTES", 0)
    file = tiny.write_trio(tmp_path / "trio", TEMPLATE.read_text())
    file.write_text(file.read_text().replace('precision = "none"', 'precision = "nf4"'))

    def started():
        with closing(open_backend(find_trio("tiny", file))) as backend:
            events = backend.stream(Request(PROMPT, Sampling(max_new_tokens=12)))
            tokens = [(e.role, e.id, e.logprob) for e in events if isinstance(e, Token)]
            return sorted(tokens), backend.model_info(), backend.memory()

    return started


@pytest.fixture
def loads(monkeypatch) -> list[Path]:
    """The folders that bases are loaded from."""
    folders: list[Path] = []

    def noted(folder, *args):
        folders.append(folder)
        return load.load_base(folder, *args)

    monkeypatch.setattr(derived_base, "load_base", noted)
    return folders


def kept(tmp_path: Path, kind: str) -> Path:
    (folder,) = (tmp_path / "cache" / "derived" / kind).iterdir()
    return folder


def test_a_second_start_is_the_first_read_back(start, loads, tmp_path) -> None:
    first = start()
    assert start() == first
    assert loads == [tmp_path / "trio" / "base", kept(tmp_path, "base")]


def test_a_changed_base_is_rounded_again(start, loads, tmp_path) -> None:
    first = start()
    path = tmp_path / "trio" / "base" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "q_proj" in name)
    tensors[name] = -tensors[name]
    save_file(tensors, path, {"format": "pt"})
    second = start()
    assert second[1] != first[1]
    assert loads == [tmp_path / "trio" / "base"] * 2


@pytest.mark.parametrize("recorded", [True, False])
def test_rounded_weights_that_are_damaged_never_answer(
    start, loads, tmp_path, caplog, recorded
) -> None:
    first = start()
    folder = kept(tmp_path, "base")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_proj.weight"))
    tensors[name].zero_()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if recorded:  # as in a large file, of which the record compares some blocks alone
        record_files(folder, recorded_facts(folder) or {})
    assert start() == first
    assert loads[-1] == tmp_path / "trio" / "base"
    assert ("holds other weights" if recorded else "does not hold what") in caplog.text
    assert start() == first
    assert loads[-1] == kept(tmp_path, "base")


@pytest.mark.skipif(not has_fbgemm(), reason="only FBGEMM has a product of 8 bits")
def test_the_heads_copy_and_its_measurement_are_read_back(start, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("models.engine.sampling.lm_head.CANDIDATES", 1)
    monkeypatch.setattr("models.engine.sampling.lm_head.MAX_KL", 9e9)
    monkeypatch.setattr("models.engine.sampling.lm_head.MAX_LOSS_CHANGE", 9e9)
    first = start()
    assert all(info.head.positions for info in first[1].values())
    calls = []
    monkeypatch.setattr(derived_head, "measure_head", lambda *args: calls.append("measured"))
    monkeypatch.setattr(derived_head, "quantize_rows", lambda *args: calls.append("quantized"))
    assert start() == first
    assert calls == []


def test_a_tokenizer_is_read_as_it_was_built(start, tmp_path, monkeypatch) -> None:
    first = start()
    monkeypatch.setattr(tokenizer_files, "_build", None)
    assert start() == first


def test_a_tokenizer_whose_class_does_more_than_its_file_says_is_built_again(
    tiny_file, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    folder = tiny_file.parent / "base"
    tokenizer = tokenizer_files.load_tokenizer(folder).tokenizer
    tokenizer.backend_tokenizer.post_processor = None
    file, built = folder / "tokenizer.json", []

    class Other(type(tokenizer)):
        def decode(self, *args, **kwargs):
            return super().decode(*args, **kwargs).upper()

    def build():
        built.append(True)
        tokenizer.__class__ = Other
        return tokenizer

    for _ in range(2):
        assert derived_tokenizer.load_built([file], {}, build) is tokenizer
    assert len(built) == 2
    assert [path.name for path in kept_files(tmp_path)] == ["files.json"]


def kept_files(cache: Path) -> list[Path]:
    return [path for path in (cache / "derived" / "tokenizer").rglob("*") if path.is_file()]


def test_a_start_without_a_cache_is_as_good(start, tmp_path, monkeypatch, caplog) -> None:
    first = start()
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    assert start() == first
    assert "cannot be written" in caplog.text
