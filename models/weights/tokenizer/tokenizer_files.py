"""Loads the tokenizer of a base, and the one that an adapter's files make of it.

An adapter's folder may hold a whole tokenizer, or only settings of the base's. What changes
nothing is not loaded again: the base's tokenizer serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from filecmp import cmp
from pathlib import Path
from typing import Any

from models.errors import WeightsError, first_line
from models.weights.json_object import read_object
from models.weights.tokenizer.added_tokens import add_tokens, new_tokens, token_text
from models.weights.tokenizer.derived_tokenizer import load_built

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Files of which a tokenizer is made."""
_SENTENCEPIECE = ("tokenizer.model", "spiece.model")
_CONFIG, _TOKENS = "tokenizer_config.json", "special_tokens_map.json"
_FILES = (*_VOCABULARIES, _CONFIG, _TOKENS, "merges.txt", "added_tokens.json")
_NAMED = ("eos_token", "bos_token", "unk_token", "pad_token")
_FRAME = ("add_bos_token", "add_eos_token")
_WORTH_BYTES = 4 << 20
"""Size of a vocabulary from which the built tokenizer is kept for the next start."""


@dataclass(frozen=True, slots=True)
class LoadedTokenizer:
    """A tokenizer, and the file that each part of it came from."""

    tokenizer: Any
    file: Path
    end_file: Path
    """The file that names the end of a text."""
    token_files: Mapping[str, Path] = field(default_factory=dict)
    """The files of tokens that are not in `file`."""
    changes: Mapping[str, Path] = field(default_factory=dict)
    """What an adapter's settings change of the base's tokenizer, with their files."""


def load_tokenizer(folder: Path) -> LoadedTokenizer:
    """Load the tokenizer that a folder holds.

    Raises:
        WeightsError: it cannot be read, or has no fast form.
    """
    return LoadedTokenizer(_load(folder), _vocabulary(folder), folder / _CONFIG)


def load_adapters_tokenizer(folder: Path, base: Path, bases: LoadedTokenizer) -> LoadedTokenizer:
    """Load an adapter's own tokenizer, or the base's with the adapter's settings.

    Args:
        folder: the adapter's folder.
        base: the base's folder.
        bases: the base's tokenizer; it is returned if the adapter has nothing of its own.

    Raises:
        WeightsError: a file cannot be read, or has a setting that is none.
    """
    if own := [name for name in _VOCABULARIES if (folder / name).is_file()]:
        if all(_is_same(folder / name, base / name) for name in _FILES):
            return replace(bases, file=_vocabulary(folder), end_file=folder / _CONFIG)
        is_fast = _VOCABULARIES[0] in own
        if not is_fast and all(_is_same(folder / name, base / name) for name in own):
            return _with_settings(folder, base, bases)
        return _with_named_tokens(load_tokenizer(folder), folder, bases)
    return _with_settings(folder, base, bases)


def _with_named_tokens(
    loaded: LoadedTokenizer, folder: Path, bases: LoadedTokenizer
) -> LoadedTokenizer:
    """Name the tokens of an adapter's own tokenizer that its settings do not, as the base does."""
    settings = read_object(folder / _TOKENS) | read_object(folder / _CONFIG)
    tokenizer, end_file = loaded.tokenizer, loaded.end_file
    for key in _NAMED:
        id = getattr(bases.tokenizer, f"{key}_id")
        text = getattr(bases.tokenizer, key)
        if key in settings or id is None or tokenizer.convert_tokens_to_ids(text) != id:
            continue
        if getattr(tokenizer, key) is None:
            setattr(tokenizer, key, text)
            end_file = bases.end_file if key == "eos_token" else end_file
    return replace(loaded, end_file=end_file)


def _with_settings(folder: Path, base: Path, bases: LoadedTokenizer) -> LoadedTokenizer:
    named = dict(_named_tokens(folder))
    names = {key: text for key, (text, _) in named.items() if text != getattr(bases.tokenizer, key)}
    bases_frame, frame = _frame(bases.tokenizer), _frame_settings(folder / _CONFIG)
    # transformers takes one that is not given as false
    framed = bases_frame | frame if bases_frame | frame != bases_frame else {}
    tokens = new_tokens(folder, bases.tokenizer, [named[key] for key in names])
    end_file = named["eos_token"][1] if "eos_token" in named else bases.end_file
    if not names and not framed and not tokens:
        return replace(bases, end_file=end_file)
    tokenizer = _load(base, f", with the settings in {folder},", **framed)
    add_tokens(tokenizer, tokens)
    tokenizer.add_special_tokens(names)
    token_files = dict(named.values()) | {token.text: token.file for token in tokens}
    changes = {
        f"{key} {str(value).lower()}": folder / _CONFIG
        for key, value in frame.items()
        if value != bases_frame[key]
    } | {f"adds {token.text}": token.file for token in tokens}
    return LoadedTokenizer(tokenizer, bases.file, end_file, token_files, changes)


def _load(folder: Path, more: str = "", **changes: Any) -> Any:
    """Load the tokenizer in a folder; `more` is what an error says of the settings."""
    vocabulary = folder / _VOCABULARIES[0]
    if not vocabulary.is_file() or vocabulary.stat().st_size < _WORTH_BYTES:
        return _build(folder, more, changes)
    files = [path for name in (*_FILES, "config.json") if (path := folder / name).is_file()]
    return load_built(files, changes, lambda: _build(folder, more, changes))


def _build(folder: Path, more: str, changes: Mapping[str, Any]) -> Any:
    """Have transformers make a tokenizer of the files in a folder."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    is_fast = (folder / _VOCABULARIES[0]).is_file()
    if not is_fast and any((folder / name).is_file() for name in _SENTENCEPIECE):
        raise WeightsError(
            f"The tokenizer in {folder} has no fast form (tokenizer.json), which is needed here. "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one, where sentencepiece "
            "is installed."
        )
    # Python code that a config names is not run; a fast tokenizer does without it.
    has_code = is_fast and "auto_map" in read_object(folder / _CONFIG)
    loader: Any = PreTrainedTokenizerFast if has_code else AutoTokenizer
    options = {} if has_code else {"use_fast": True, "trust_remote_code": False}
    try:
        tokenizer = loader.from_pretrained(folder, **options, **changes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise WeightsError(f"The tokenizer in {folder}{more} cannot be read: {what}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise WeightsError(
            f"The tokenizer in {folder} has no fast form (tokenizer.json), which is needed here."
        )
    for unused in ("_vocab", "_merges"):
        # Tokenizers built from a GGUF file keep these, which nothing reads: 143 MB of Gemma's.
        vars(tokenizer).pop(unused, None)
    return tokenizer


def _vocabulary(folder: Path) -> Path:
    files = (folder / name for name in _VOCABULARIES)
    return next((path for path in files if path.is_file()), folder)


def _is_same(file: Path, other: Path) -> bool:
    """Whether two files hold the same bytes, or neither is there."""
    if not (file.is_file() and other.is_file()):
        return file.is_file() == other.is_file()
    return cmp(file, other, shallow=False)


def _named_tokens(folder: Path) -> Iterator[tuple[str, tuple[str, Path]]]:
    """Yield the tokens that an adapter's settings name, with the file; the config's come last."""
    for file in (folder / _TOKENS, folder / _CONFIG):
        settings = read_object(file)
        for key in _NAMED:
            if settings.get(key):
                yield key, (token_text(settings[key], key, file), file)


def _frame_settings(config: Path) -> dict[str, bool]:
    """Return what an adapter's config says of the tokens that are put around a text."""
    settings = read_object(config)
    given = {key: settings[key] for key in _FRAME if settings.get(key) is not None}
    for key, value in given.items():
        if not isinstance(value, bool):
            raise WeightsError(f"{config}: {key} is {value!r}; true or false would do.")
    return given


def _frame(tokenizer: Any) -> dict[str, bool]:
    """Return which tokens a tokenizer puts around a text, whatever its config says of it."""
    ids, bos, eos = tokenizer("a")["input_ids"], tokenizer.bos_token_id, tokenizer.eos_token_id
    return dict(zip(_FRAME, (ids[:1] == [bos], ids[-1:] == [eos]), strict=True))
