"""Finds what renders, tokenizes and ends a variant's texts: its adapter's files, else its base's.

An adapter's folder may hold a tokenizer, a chat template and a generation config, as trainers save
them beside the weights; they were in force in its training. What it lacks is the base's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsError
from models.model_info import ProgressCallback
from models.text.encoder import Encoder
from models.types import Variant
from models.weights.fetch import base_folder
from models.weights.json_object import read_object
from models.weights.load import adapter_folder
from models.weights.tokenizer.chat_template_files import TemplateFile, read_template
from models.weights.tokenizer.tokenizer_files import (
    LoadedTokenizer,
    load_adapters_tokenizer,
    load_tokenizer,
)


@dataclass(frozen=True, slots=True)
class _EndIds:
    """The ids that end a text by a config, and its file."""

    ids: tuple[int, ...]
    file: Path


def load_encoders(
    variants: Sequence[Variant], on_progress: ProgressCallback
) -> tuple[Encoder, ...]:
    """Load the encoders of variants that share a base; no weights are read.

    Raises:
        WeightsError: a file cannot be read, or an adapter's tokenizer has tokens that the base's
            embedding lacks.
        TrioError: a variant reads chat and has no chat template, or one that is no template.
    """
    base = base_folder(variants[0].weights.base, on_progress)
    bases = load_tokenizer(base)
    return tuple(_encoder(variant, base, bases) for variant in variants)


def _encoder(variant: Variant, base: Path, bases: LoadedTokenizer) -> Encoder:
    pin = variant.weights.adapter
    folders = [adapter_folder(pin), base] if pin else [base]
    template = _template(folders) if variant.reads == "chat" else None
    tokenizer = load_adapters_tokenizer(folders[0], base, bases) if pin else bases
    if tokenizer.tokenizer is not bases.tokenizer:
        _check_rows(variant, tokenizer, base)
    end_ids = _end_ids(folders)
    if end_ids:
        _check_ends(end_ids, tokenizer)
    eos = tokenizer.tokenizer.eos_token_id
    names = ({folders[0]: pin.name} if pin else {}) | {base: "base"}
    sources = {}
    for part, file in _files(tokenizer, template, end_ids):
        folder = _folder_of(file, folders)
        sources[part] = f"{names[folder]}/{file.relative_to(folder)}"
    return Encoder(
        variant,
        tokenizer.tokenizer,
        template.text if template else None,
        frozenset((*(end_ids.ids if end_ids else ()), *(() if eos is None else (eos,)))),
        sources,
    )


def _folder_of(file: Path, folders: Sequence[Path]) -> Path:
    """Return the folder that a file is of; of folders within each other the inner one."""
    return max((folder for folder in folders if folder in file.parents), key=lambda f: len(f.parts))


def _files(
    tokenizer: LoadedTokenizer, template: TemplateFile | None, end_ids: _EndIds | None
) -> Iterator[tuple[str, Path]]:
    """Yield what an encoder is made of, with the file of each."""
    yield "tokenizer", tokenizer.file
    yield from tokenizer.changes.items()
    if template:
        yield "chat template", template.file
    eos = tokenizer.tokenizer.eos_token_id
    if eos is not None:
        yield f"ends at {tokenizer.tokenizer.eos_token}", tokenizer.end_file
    for id in end_ids.ids if end_ids else ():
        if id != eos and end_ids:
            yield f"ends at {tokenizer.tokenizer.convert_ids_to_tokens(id) or id}", end_ids.file


def _template(folders: Sequence[Path]) -> TemplateFile | None:
    return next(filter(None, map(read_template, folders)), None)


def _check_rows(variant: Variant, tokenizer: LoadedTokenizer, base: Path) -> None:
    """Refuse a tokenizer that has more tokens than the base's embedding has rows."""
    config = read_object(base / "config.json")
    rows = (config.get("text_config") or config).get("vocab_size")
    if not isinstance(rows, int):
        return
    added = sorted((id, token) for token, id in tokenizer.tokenizer.get_added_vocab().items())
    beyond = [(id, token) for id, token in added if id >= rows]
    if beyond or len(tokenizer.tokenizer) > rows:
        which = ", ".join(f"{token} ({id})" for id, token in beyond[:3]) or "more tokens"
        files = [tokenizer.token_files.get(token, tokenizer.file) for _, token in beyond]
        raise WeightsError(
            f"The tokenizer of {variant.name} ({(files or [tokenizer.file])[0]}) adds {which}, for "
            f"which the base's embedding of {rows} rows has none. Merge the adapter into a base "
            "that was resized, and name that folder as base."
        )


def _check_ends(end_ids: _EndIds, tokenizer: LoadedTokenizer) -> None:
    """Refuse ids of ends that are no tokens."""
    size = len(tokenizer.tokenizer)
    for id in end_ids.ids:
        if type(id) is not int or not 0 <= id < size:
            raise WeightsError(
                f"{end_ids.file}: eos_token_id has {id!r}; ids go from 0 to {size - 1}. "
                "Correct it, or take it out."
            )


def _end_ids(folders: Sequence[Path]) -> _EndIds | None:
    """Return the ids that end a text by the first file that names any; the base's config last."""
    files = [folder / "generation_config.json" for folder in folders]
    for file in (*files, folders[-1] / "config.json"):
        config = read_object(file)
        value = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
        if value is not None:
            return _EndIds(tuple(value) if isinstance(value, list) else (value,), file)
    return None
