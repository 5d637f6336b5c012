"""Calls of tools in a reply, put together from the parts in which servers send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.backends.openai.errors import as_text


@dataclass(slots=True)
class _Call:
    """A call as it grows."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class ToolCalls:
    """The calls of one reply."""

    def __init__(self) -> None:
        """Begin with no call."""
        self._calls: list[_Call] = []
        self._by_index: dict[str, _Call] = {}

    def __bool__(self) -> bool:
        """Whether a tool was called."""
        return bool(self._calls)

    def __str__(self) -> str:
        """Return the calls, each as its name and its arguments in JSON."""
        return ", ".join(call.name + call.arguments for call in self._calls)

    def add(self, parts: object) -> None:
        """Add the parts of an event, a list or only one."""
        for n, part in enumerate(parts if isinstance(parts, list) else [parts]):
            self._add_part(n, part if isinstance(part, Mapping) else {"function": part})

    def _add_part(self, n: int, part: Mapping[str, Any]) -> None:
        """Add a part to the call that it belongs to.

        Args:
            n: position of the part in its event, which stands for an index that is missing.
            part: a name, an id, arguments, or some of them.
        """
        function = part.get("function")
        function = function if isinstance(function, Mapping) else {"arguments": function}
        given = function.get("arguments")
        new = _Call(
            as_text(part.get("id") or ""),
            as_text(function.get("name") or ""),
            "" if given is None else as_text(given),
        )
        if new == _Call():
            return
        has_index = part.get("index") is not None
        index = str(part["index"] if has_index else n)
        if call := self._begun(index, has_index, new):
            call.id, call.name = call.id or new.id, call.name or new.name
            call.arguments += new.arguments
        else:
            self._calls.append(new)
            self._by_index[index] = new

    def _begun(self, index: str, has_index: bool, part: _Call) -> _Call | None:
        """Return the call that a part goes on with; a new id or name at an index begins another."""
        if not (has_index or part.id or part.name):
            return self._calls[-1] if self._calls else None
        call = self._by_index.get(index)
        is_other = call and any(
            old and new and old != new for old, new in ((call.id, part.id), (call.name, part.name))
        )
        return None if is_other else call
