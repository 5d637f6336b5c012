"""How the variants were trained: one subject as a row of each kind of training."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models import ROLES, Backend, Prompt, Role, TokenPiece

PASSAGE = Path(__file__).with_name("explain.toml")


@dataclass(frozen=True, slots=True)
class AnnotatedRow:
    """One row of a kind of training, as tokens with its loss mask."""

    kind: str
    explains: str
    pieces: tuple[TokenPiece, ...]
    first_label: int
    """Tokens from this one on are labels: each is predicted at the position before it."""


def known_base(source: str) -> dict[str, str]:
    """Return what is known of how a base was trained, as names and values."""
    tables = tomllib.loads(PASSAGE.read_text(encoding="utf-8"))
    known: dict[str, str] = tables["bases"].get(
        source, {"data": "that of the base's publisher; its model card says what is known"}
    )
    return known


def one_passage(trio: Backend) -> dict[Role, AnnotatedRow]:
    """Return one subject as a row of each variant's kind of training."""
    tables = tomllib.loads(PASSAGE.read_text(encoding="utf-8"))
    rows: dict[Role, AnnotatedRow] = {}
    for role in ROLES:
        table = tables[role]
        prompt = Prompt(table["instruction"], table.get("input", ""))
        sent = trio.encode(prompt)[role]
        asked = sent.pieces
        if not asked:  # an endpoint, whose tokens are not known
            continue
        if answer := table.get("answer"):
            pieces, first = asked + trio.encoders[role].completion(sent, answer), len(asked)
        else:  # plain text: all but the token that begins it
            pieces, first = asked, 1
        rows[role] = AnnotatedRow(table["kind"], table["explains"], pieces, first)
    return rows
