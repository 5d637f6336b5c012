"""Token ids → the text and the bytes of each token, as it stands inside of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256

from models.errors import PromptError
from models.text.tokenization import Tokenization
from models.types import TokenPiece


class TokenPieces:
    """The tokens of one vocabulary, each decoded once."""

    def __init__(self, tokenization: Tokenization) -> None:
        """Decode the tokens of the tokenizer that `tokenization` has."""
        self._tokenization = tokenization
        self._tokenizer = tokenization.tokenizer
        self._size = len(self._tokenizer)
        """Size of the vocabulary; kept, since `len` of a tokenizer counts all tokens each time."""
        self._pieces: dict[int, TokenPiece] = {}
        """Cache of decoded tokens, by id."""

    def of(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return the tokens with the given ids.

        Raises:
            PromptError: there is no such id.
        """
        if unknown := [id for id in ids if not 0 <= id < self._size]:
            last = self._size - 1
            raise PromptError(f"There is no token {unknown[0]}; ids go from 0 to {last}.")
        return tuple(map(self.piece, ids))

    def piece(self, id: int) -> TokenPiece:
        """Return the token with an id of the vocabulary."""
        if id not in self._pieces:
            special = id in self._tokenization.special_ids
            text = self._decoded([id]) if special else self._text_inside(id)
            token: str = self._tokenizer.convert_ids_to_tokens(id)
            data = b"" if special else _data(text, token)
            self._pieces[id] = TokenPiece(id, token if "\ufffd" in text else text, special, data)
        return self._pieces[id]

    @cached_property
    def vocabulary(self) -> str:
        """Hash of all tokens in the order of their ids."""
        tokens = self._tokenizer.convert_ids_to_tokens(range(self._size))
        return sha256("\0".join(map(str, tokens)).encode()).hexdigest()[:12]

    def _text_inside(self, id: int) -> str:
        """Return a token's text inside of a text; decoders strip the space that begins one."""
        before = self._decoded(self._inner)
        text = self._decoded([*self._inner, id])
        return text[len(before) :] if text.startswith(before) else self._decoded([id])

    @cached_property
    def _inner(self) -> list[int]:
        """A token of plain text, after which others are decoded."""
        return self._tokenization.ids("a", literal=True)[-1:]

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _data(text: str, token: str) -> bytes:
    """Return a token's bytes; part of a character is `<0x…>` or byte-level in the vocabulary."""
    if "\ufffd" not in text:
        return text.encode()
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", token):
        return bytes.fromhex(byte[1])
    return bytes(_BYTES.get(char, ord("?")) for char in token)


def _byte_level() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printed = [*range(ord("!"), 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = _byte_level()
