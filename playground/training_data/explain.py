"""Example training rows, one per variant on the same subject, to show how each was trained."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models import ROLES, Backend, Prompt, Role, TokenPiece

PASSAGE = Path(__file__).with_name("explain.toml")


@dataclass(frozen=True, slots=True)
class AnnotatedRow:
    """One training row as tokens, with its loss mask."""

    kind: str
    """Kind of training, in words for the page."""
    explains: str
    pieces: tuple[TokenPiece, ...]
    first_label: int
    """Index of the first label: this token and all later ones are predicted from those before."""


def known_base(source: str) -> dict[str, str]:
    """Return the known facts about the training of a base, by name."""
    tables = tomllib.loads(PASSAGE.read_text(encoding="utf-8"))
    known: dict[str, str] = tables["bases"].get(
        source, {"data": "that of the base's publisher; its model card says what is known"}
    )
    return known


def example_rows(trio: Backend) -> dict[Role, AnnotatedRow]:
    """Return a row on the same subject for each variant, except for those on servers."""
    tables = tomllib.loads(PASSAGE.read_text(encoding="utf-8"))
    rows: dict[Role, AnnotatedRow] = {}
    for role in ROLES:
        table = tables[role]
        prompt = Prompt(table["instruction"], table.get("input", ""))
        sent = trio.encode(prompt)[role]
        prompt_pieces = sent.pieces
        if not prompt_pieces:  # an endpoint, whose tokens are unknown
            continue
        if answer := table.get("answer"):
            pieces = prompt_pieces + trio.encoders[role].completion(sent, answer)
            first = len(prompt_pieces)
        else:  # plain text: every token but the first is a label
            pieces, first = prompt_pieces, 1
        rows[role] = AnnotatedRow(table["kind"], table["explains"], pieces, first)
    return rows
