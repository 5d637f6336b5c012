"""Fields of a request that a server takes by another name, or not at all.

Some are named in the trio file (`request`); others are learned when the server refuses a request
and names the field. What was learned is said with every answer that it concerns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from models.backends.openai.errors import body_words, one_line
from models.request import ENDPOINT_FIELDS
from models.types import Endpoint

_SUCCESSORS = {"max_tokens": "max_completion_tokens"}
"""Newer names of fields, tried before a field is left out."""
_VALUE_REFUSED = re.compile(
    r"(must|should) be (?!omitted|removed|unset|left|absent|null|none|empty)|too (large|high|long|"
    r"small|low|many)|exceed|at (most|least)|between|range|(less|greater) than|maximum|minimum",
    re.IGNORECASE,
)
"""Words about the value of a field, not the field: left out, it would only hide the mistake."""


class RequestFields:
    """Names of the request fields of one server; an empty name leaves a field out."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Begin with the names of the trio file."""
        self._endpoint = endpoint
        self._names = dict(endpoint.request)
        self._notes: dict[str, str] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What the server refused, and what was sent instead."""
        return tuple(self._notes.values())

    @property
    def learned(self) -> tuple[dict[str, str], dict[str, str]]:
        """Names and notes as they are now, to go back to."""
        return dict(self._names), dict(self._notes)

    @learned.setter
    def learned(self, state: tuple[dict[str, str], dict[str, str]]) -> None:
        self._names, self._notes = dict(state[0]), dict(state[1])

    def rename(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request with the fields that the server takes, by their names."""
        named = {self._names.get(field, field): value for field, value in body.items()}
        return {name: value for name, value in named.items() if name}

    def learn(self, sent: Mapping[str, Any], refusal: str) -> bool:
        """Read a refusal; return whether another request, without the refused field, may do.

        Args:
            sent: the body of the refused request.
            refusal: the body of the server's reply, with status 400 or 422.
        """
        words = body_words(refusal)
        parameter = re.search(r'"param"\s*:\s*"(\w+)"', refusal)
        named = f"{words} {parameter[1]}" if parameter else words
        if _VALUE_REFUSED.search(words):
            return False
        for field in ENDPOINT_FIELDS:
            name = self._names.get(field, field)
            refused = name if name in sent else field
            if refused in sent and re.search(rf"(?<!\w){re.escape(refused)}(?!\w)", named):
                instead = _SUCCESSORS.get(field, "") if refused == field else ""
                self._names[field] = instead
                self._notes[field] = self._note(field, refused, instead, words)
                return True
        return False

    def _note(self, field: str, refused: str, instead: str, words: str) -> str:
        how = (
            f"with {instead}" if instead else f"without {refused}: the server's own setting applies"
        )
        entry = f'{field} = "{instead}"' if instead else f"{field} = false"
        return (
            f"{self._endpoint} refuses {refused} (“{one_line(words)}”) and was asked again {how}. "
            f"To say so in the trio file: request = {{ {entry} }}."
        )


def asked_as(endpoint: Endpoint) -> str:
    """Return a model, its server, and what the trio file renames or leaves out of requests."""
    changes = (f"{name} for {field}" if name else f"no {field}" for field, name in endpoint.request)
    return ", ".join([str(endpoint), *changes])
