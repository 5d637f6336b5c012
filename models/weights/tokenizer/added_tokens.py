"""Tokens that an adapter's settings add to the tokenizer of its base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import WeightsError
from models.weights.json_object import read_object

_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that the base's tokenizer lacks."""

    text: str
    file: Path
    """The adapter's file that has it."""
    special: bool
    id: int | None = None
    """The id that the file gives it; None if it gives none."""


def new_tokens(
    folder: Path, tokenizer: Any, named: Sequence[tuple[str, Path]] = ()
) -> list[NewToken]:
    """Return the tokens in an adapter's files that are not the base's, in the order of their ids.

    A token is the base's if it has the same id there, and is special there if it is to be.

    Args:
        folder: the adapter's folder.
        tokenizer: the base's.
        named: the tokens that the adapter's settings name, as the end of a text, with the file.

    Raises:
        WeightsError: a file cannot be read, has something else for a token, or leaves open in which
            order tokens were added.
    """
    special = {text: NewToken(text, file, special=True) for text, file in named}
    special |= {token.text: token for token in _listed(folder)}
    numbered = {
        token.text: NewToken(
            token.text, token.file, token.special or token.text in special, token.id
        )
        for token in _numbered(folder)
    }
    new = [token for token in (special | numbered).values() if not _is_known(token, tokenizer)]
    known = tokenizer.backend_tokenizer.token_to_id
    unnumbered = [token for token in new if token.id is None and known(token.text) is None]
    if len(unnumbered) > 1:
        texts = " and ".join(token.text for token in unnumbered[:2])
        raise WeightsError(
            f"{unnumbered[0].file} adds {texts} to the base's tokenizer and does not say with "
            "which ids. Put the tokenizer that the adapter was trained with beside it."
        )
    return sorted(new, key=lambda token: (token.id is None, token.id or 0))


def add_tokens(tokenizer: Any, tokens: Sequence[NewToken]) -> None:
    """Add tokens to a tokenizer.

    Raises:
        WeightsError: the file of one gives it another id than it gets.
    """
    from tokenizers import AddedToken

    for token in tokens:
        tokenizer.add_tokens(
            [AddedToken(token.text, special=token.special, normalized=not token.special)]
        )
        id = tokenizer.convert_tokens_to_ids(token.text)
        if token.id not in (None, id):
            raise WeightsError(
                f"{token.file} has {token.text} as token {token.id}; with the base's tokenizer it "
                f"is {id}. Put the tokenizer that the adapter was trained with beside it, or take "
                "the token out."
            )


def token_text(value: Any, key: str, file: Path) -> str:
    """Return the text of a token, which may be given with its flags.

    Raises:
        WeightsError: it has none.
    """
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text:
        raise WeightsError(f"{file}: {key} has {value!r}, which is no token. A text would do.")
    return text


def _is_known(token: NewToken, tokenizer: Any) -> bool:
    id = tokenizer.backend_tokenizer.token_to_id(token.text)
    if id is None or token.id not in (None, id):
        return False
    added = tokenizer.added_tokens_decoder.get(id)
    is_special = token.text in tokenizer.all_special_tokens or (added and added.special)
    return bool(is_special or not token.special)


def _numbered(folder: Path) -> Iterator[NewToken]:
    """Yield the tokens that the files give an id."""
    file = folder / "added_tokens.json"
    for text, id in read_object(file).items():
        if type(id) is not int:
            raise WeightsError(f"{file}: {text} has {id!r}; the number of a token would do.")
        yield NewToken(text, file, special=False, id=id)
    file = folder / "tokenizer_config.json"
    for key, token in _object(file, "added_tokens_decoder").items():
        text = token_text(token, f"added_tokens_decoder.{key}", file)
        if not key.isdecimal():
            raise WeightsError(f"{file}: added_tokens_decoder has {key!r}, which is no id.")
        yield NewToken(text, file, isinstance(token, dict) and bool(token.get("special")), int(key))


def _listed(folder: Path) -> Iterator[NewToken]:
    """Yield the special tokens that the files list without ids."""
    for file in (folder / "special_tokens_map.json", folder / "tokenizer_config.json"):
        settings = read_object(file)
        for key in _LISTS:
            tokens = settings.get(key) or []
            tokens = list(tokens.values()) if isinstance(tokens, dict) else tokens
            if not isinstance(tokens, list):
                raise WeightsError(f"{file}: {key} is {tokens!r}; a list of tokens would do.")
            for token in tokens:
                yield NewToken(token_text(token, key, file), file, special=True)


def _object(file: Path, key: str) -> dict[str, Any]:
    value = read_object(file).get(key) or {}
    if not isinstance(value, dict):
        raise WeightsError(f"{file}: {key} is {value!r}; an object would do.")
    return value
