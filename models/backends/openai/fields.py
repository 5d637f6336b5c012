"""Fields of a request that a server takes by another name, or not at all.

Some are named in the trio file (`request`); others are learned when the server refuses a request
and says that it does not take the field. What was learned is said with every answer that it
concerns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.backends.openai.errors import body_words, one_line
from models.request import ENDPOINT_FIELDS
from models.types import Endpoint

_SUCCESSORS = {"max_tokens": "max_completion_tokens"}
"""Newer names of fields, tried before a field is left out."""
_FIELD_REFUSED = re.compile(
    r"""\b(unknown | unrecogni[sz]ed | unexpected | unsupported)\b (?!\ (value|type)s?\b)
    | \bextra\b | additional\ propert | deprecated | no\ longer | \buse\ \W?[a-z]\w+\W?\ instead
    | (\b(can)?not | n['’]t) \ (
        supported | support | permitted | permit | allowed | allow | accepted | accept | available
        | implemented | recogni[sz]ed? | be\ (set | sent | used | given | specified | provided)
    )\b (?!\ to\b)
    | \b(omit | remove) | \bbe\ (unset | left\ out | absent | null | none | empty)\b
    | cannot\ both | not\ both | mutually\ exclusive""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words that say of a field that it is not taken."""
_VALUE_REFUSED = re.compile(
    r"\b(too \w+|exceed\w*|between|range|limit|maximum|minimum|at (most|least)|above|below|over"
    r"|(less|more|(?!other|rather)\w+er) than)\b",
    re.IGNORECASE,
)
"""Words that compare; a field left out for them would only hide a mistake in its value."""


@dataclass(frozen=True, slots=True)
class RequestFields:
    """Names of the request fields of one server."""

    endpoint: Endpoint
    learned: tuple[tuple[str, str], ...] = ()
    """Fields that it refused and what they are called instead; an empty name leaves one out."""
    notes: tuple[str, ...] = ()
    """What it refused, and what was sent instead, a sentence for each field."""

    def rename(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request with the fields that the server takes, by their names."""
        names = self._names()
        named = {names.get(field, field): value for field, value in body.items()}
        return {name: value for name, value in named.items() if name}

    def learn(self, sent: Mapping[str, Any], refusal: str) -> RequestFields | None:
        """Read a refusal; return the fields with which another request may do, or None.

        Args:
            sent: the body of the refused request.
            refusal: the body of the server's reply, with status 400 or 422.
        """
        words, names = body_words(refusal), self._names()
        parameter = re.search(r'"param"\s*:\s*"(\w+)"', refusal)
        about = parameter[1] if parameter and parameter[1] in sent else None
        for field in ENDPOINT_FIELDS:
            name = names.get(field, field)
            refused = name if name in sent else field
            if refused in sent and _is_refused(refused, words, about):
                instead = _SUCCESSORS.get(field, "") if refused == field else ""
                return self._with(field, refused, instead, words)
        return None

    def _names(self) -> dict[str, str]:
        return dict((*self.endpoint.request, *self.learned))

    def _with(self, field: str, refused: str, instead: str, words: str) -> RequestFields:
        """Return the names with another one, and a note that takes the place of its field's."""
        how = (
            f"with {instead}" if instead else f"without {refused}: the server's own setting applies"
        )
        entry = f'{field} = "{instead}"' if instead else f"{field} = false"
        note = (
            f"{self.endpoint} refuses {refused} (“{one_line(words)}”) and was asked again {how}. "
            f"To say so in the trio file: request = {{ {entry} }}."
        )
        notes = dict(zip(dict(self.learned), self.notes, strict=True)) | {field: note}
        learned = dict(self.learned) | {field: instead}
        return replace(self, learned=tuple(learned.items()), notes=tuple(notes.values()))


def _is_refused(name: str, words: str, about: str | None) -> bool:
    """Whether a sentence of the server says that it does not take a field.

    A list of the fields that it does take may stand in another sentence. A number after the name
    is the field's value, which the sentence is about then.

    Args:
        name: the field, as it was sent.
        words: what the server said.
        about: the field that the server gives beside its words, if it does.
    """
    named = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    valued = re.compile(named.pattern + r"\W{1,3}(of |is )?-?\d")
    return any(
        (named.search(sentence) if about is None else name == about)
        and _FIELD_REFUSED.search(sentence)
        and not _VALUE_REFUSED.search(sentence)
        and not valued.search(sentence)
        for sentence in re.split(r"(?<=[.;!?])\s+|\n", words)
    )


def asked_as(endpoint: Endpoint) -> str:
    """Return a model, its server, and what the trio file renames or leaves out of requests."""
    changes = (f"{name} for {field}" if name else f"no {field}" for field, name in endpoint.request)
    return ", ".join([str(endpoint), *changes])
