"""Finds what renders, tokenizes and ends a variant's texts: its adapter's files, else its base's.

An adapter's folder may hold a tokenizer, a chat template and a generation config, as trainers save
them beside the weights; they were in force in its training. What it lacks is the base's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import WeightsError, first_line
from models.model_info import ProgressCallback
from models.text.encoder import Encoder
from models.types import Variant
from models.weights.fetch import base_folder
from models.weights.load import adapter_folder

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Files of which a tokenizer is made."""
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_OVERRIDES = ("chat_template", "eos_token", "bos_token", "unk_token", "pad_token")
"""Settings of an adapter's tokenizer config that count without a tokenizer beside it."""
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """A tokenizer, and the file that each part of it came from."""

    tokenizer: Any
    file: Path
    template_file: Path
    end_file: Path
    """The file that names the end of a text."""


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
    of_base = _load(base)
    return tuple(_encoder(variant, base, of_base) for variant in variants)


def _encoder(variant: Variant, base: Path, of_base: _Tokenizer) -> Encoder:
    own, own_ends = of_base, None
    if variant.weights.adapter:
        folder = adapter_folder(variant.weights.adapter)
        own = _adapters(folder, base) or of_base
        own_ends = _ends(folder, ("generation_config.json",))
        if own is not of_base:
            _check_rows(variant, own, base)
    ends = own_ends or _ends(base, ("generation_config.json", "config.json"))
    _check_ends(ends, own)
    eos = own.tokenizer.eos_token_id
    ids, ends_file = ends or ((), None)
    template, template_file = _template(variant, own)
    adapter = str(variant.weights.adapter and variant.weights.adapter.source).rsplit("/")[-1]

    def shown(path: Path) -> str:
        return f"{'base' if base in path.parents else adapter}/{path.name}"

    sources = {"tokenizer": shown(own.file)}
    if variant.reads == "chat" and template_file:
        sources["chat template"] = shown(template_file)
    if eos is not None:
        sources[f"ends at {own.tokenizer.eos_token}"] = shown(own.end_file)
    for id in ids:
        if id != eos and ends_file:
            token = own.tokenizer.convert_ids_to_tokens(id) or id
            sources[f"ends at {token}"] = shown(ends_file)
    eos_ids = frozenset(id for id in (*ids, eos) if id is not None)
    return Encoder(variant, own.tokenizer, template, eos_ids, sources)


def _load(folder: Path, **overrides: Any) -> _Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **overrides)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise WeightsError(
            f"The tokenizer in {folder} cannot be read: {first_line(error)}"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise WeightsError(
            f"The tokenizer in {folder} has no fast form (tokenizer.json), which is needed here."
        )
    for unused in ("_vocab", "_merges"):
        # Tokenizers built from a GGUF file keep these, which nothing reads: 143 MB of Gemma's.
        vars(tokenizer).pop(unused, None)
    files = (folder / name for name in _VOCABULARIES)
    file = next((path for path in files if path.is_file()), folder)
    template = folder / TEMPLATE
    config = folder / _CONFIGS[0]
    return _Tokenizer(tokenizer, file, template if template.is_file() else config, config)


def _adapters(folder: Path, base: Path) -> _Tokenizer | None:
    """Return an adapter's own tokenizer, or the base's with its settings; None if it has none."""
    if any((folder / name).is_file() for name in _VOCABULARIES):
        return _load(folder)
    settings: dict[str, Any] = {}
    for name in reversed(_CONFIGS):
        settings |= _json(folder / name)
    overrides = {key: settings[key] for key in _OVERRIDES if settings.get(key)}
    for key, value in overrides.items():
        if isinstance(value, dict):  # a token with its flags
            overrides[key] = value.get("content", "")
    if (template := folder / TEMPLATE).is_file():
        try:
            overrides["chat_template"] = template.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise WeightsError(f"{template} cannot be read: {first_line(error)}") from error
    if not overrides:
        return None
    loaded = _load(base, **overrides)
    files = {key: folder / name for name in reversed(_CONFIGS) for key in _json(folder / name)}
    if template.is_file():
        files["chat_template"] = template
    return _Tokenizer(
        loaded.tokenizer,
        loaded.file,
        files.get("chat_template", loaded.template_file),
        files.get("eos_token", loaded.end_file),
    )


def _template(variant: Variant, own: _Tokenizer) -> tuple[str | None, Path | None]:
    """Return the chat template, and its file; of several named ones the default."""
    templates = own.tokenizer.chat_template
    if isinstance(templates, dict) and "default" not in templates and variant.reads == "chat":
        raise WeightsError(
            f"{own.template_file} has the chat templates {', '.join(templates)}, and none named "
            "default. Put the one to be used into chat_template.jinja."
        )
    template = templates.get("default") if isinstance(templates, dict) else templates
    return template, own.template_file if template else None


def _check_rows(variant: Variant, own: _Tokenizer, base: Path) -> None:
    """Refuse a tokenizer that has more tokens than the base's embedding has rows."""
    config = _json(base / "config.json")
    rows = (config.get("text_config") or config).get("vocab_size")
    if not isinstance(rows, int):
        return
    added = sorted((id, token) for token, id in own.tokenizer.get_added_vocab().items())
    beyond = [(id, token) for id, token in added if id >= rows]
    if beyond or len(own.tokenizer) > rows:
        which = ", ".join(f"{token} ({id})" for id, token in beyond[:3]) or "more tokens"
        raise WeightsError(
            f"The tokenizer of {variant.name} ({own.file}) adds {which}, for which the base's "
            f"embedding of {rows} rows has none. Merge the adapter into a base that was resized, "
            "and name that folder as base."
        )


def _check_ends(ends: tuple[tuple[int, ...], Path] | None, own: _Tokenizer) -> None:
    """Refuse ids of ends that are no tokens."""
    ids, path = ends or ((), own.end_file)
    for id in ids:
        if type(id) is not int or not 0 <= id < len(own.tokenizer):
            raise WeightsError(
                f"{path}: eos_token_id has {id!r}; ids go from 0 to {len(own.tokenizer) - 1}. "
                "Correct it, or take it out."
            )


def _ends(folder: Path, names: Sequence[str]) -> tuple[tuple[int, ...], Path] | None:
    """Return the ids that end a text by the first file that names any, and the file."""
    for name in names:
        config = _json(folder / name)
        value = config.get("eos_token_id", (config.get("text_config") or {}).get("eos_token_id"))
        if value is not None:
            return tuple(value) if isinstance(value, list) else (value,), folder / name
    return None


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; an empty one if the file is missing.

    Raises:
        WeightsError: it cannot be read, or holds no object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} holds {type(values).__name__}, not an object.")
    return values
