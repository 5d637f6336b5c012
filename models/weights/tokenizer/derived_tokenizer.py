"""Keeps a tokenizer as transformers built it, for faster starts.

For most kinds of models transformers reads the vocabulary in Python and builds the tokenizer anew,
which takes three times as long as reading the built one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.cache.checked_files import whole_digest
from models.cache.derived import DerivedFiles, code_digest

_FILE = "tokenizer.json"
_SETTINGS = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "extra_special_tokens",
)
_PROBES = (
    "The ferry leaves at 6:30.\n\n\tIt's 14.50, isn't it?  Yes , it is .",
    "Übergröße naïve 東京 🙂 \u200b𝔘 x²",
    " leading and trailing ",
    "",
)
"""Texts whose token ids are compared."""


def load_built(files: Sequence[Path], changes: dict[str, Any], build: Callable[[], Any]) -> Any:
    """Return the tokenizer that `build` makes, as an earlier start wrote it if one did.

    Args:
        files: all files that it is made of.
        changes: settings in place of those in the files.
        build: makes it of the files, by transformers.
    """
    digests = {path.name: whole_digest(path) for path in files}
    builder = Path(__file__).with_name("tokenizer_files.py")
    depends = {
        "files": digests,
        "changes": changes,
        "code": code_digest(__file__, str(builder)),
    }
    derived = DerivedFiles("tokenizer", depends, most=10)
    facts = derived.read(whole=True)
    if facts and facts["settings"]:
        with suppress(Exception):  # another start may have deleted the file meanwhile
            return _built(derived.folder / _FILE, facts["settings"])
    tokenizer = build()
    if facts is None:
        derived.write(lambda folder: _save(tokenizer, folder))
    return tokenizer


def _save(tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Write a tokenizer's file, unless its class does more than that says; return its settings."""
    settings = {name: getattr(tokenizer, name) for name in _SETTINGS}
    settings |= tokenizer.special_tokens_map
    file = folder / _FILE
    tokenizer.backend_tokenizer.save(str(file), pretty=False)
    if _behaviour(_built(file, settings)) == _behaviour(tokenizer):
        return {"settings": settings}
    file.unlink()
    return {"settings": None}


def _built(path: Path, settings: dict[str, Any]) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(path), **settings)


def _behaviour(tokenizer: Any) -> list[Any]:
    """Return what a tokenizer does with texts, and which tokens are special to it."""
    specials = tokenizer.all_special_tokens
    texts = [
        *_PROBES,
        *(f"before{space}{token}{space}after" for token in specials for space in ("", "  ")),
    ]
    ids = [
        tokenizer(text, add_special_tokens=add, split_special_tokens=split)["input_ids"]
        for text in texts
        for add in (False, True)
        for split in (False, True)
    ]
    decoded = [
        tokenizer.decode(row, skip_special_tokens=skip) for row in ids for skip in (False, True)
    ]
    added = {id: str(token) for id, token in tokenizer.added_tokens_decoder.items()}
    settings = [getattr(tokenizer, name) for name in _SETTINGS]
    return [ids, decoded, added, specials, tokenizer.special_tokens_map, len(tokenizer), settings]
