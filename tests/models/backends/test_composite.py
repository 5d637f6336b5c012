"""Weights here and servers elsewhere, in one trio; several streams as one."""

from __future__ import annotations

from contextlib import closing

import pytest
from endpoint import events_by_role

from models import (
    ROLES,
    ModelError,
    Prompt,
    Request,
    Sampling,
    Token,
    open_backend,
)
from models.backends.composite import CompositeBackend
from models.backends.merge_streams import merge_streams
from playground.lens import score_text
from playground.lens.token_scores import available


def test_here_and_there_answer_side_by_side(trio_of, tiny_file, server) -> None:
    folder = tiny_file.parent
    here = f'name = "b"\nbase = "{folder}/base"'
    trio = trio_of(base=here, task=f'{here}\nadapter = "{folder}/task"')
    with closing(open_backend(trio)) as backend:
        assert isinstance(backend, CompositeBackend)
        by_role = events_by_role(backend)
        assert "".join(event.text for event in by_role["instruct"]) == "Why not?"
        assert len([event for event in by_role["base"] if isinstance(event, Token)]) == 8
        assert list(backend.encode(Prompt("x"))) == list(ROLES)
        assert [info.fingerprint != "" for info in backend.model_info().values()] == [
            True,
            True,
            False,
        ]
        *_, readings = score_text.score_text(backend, Prompt("To boil an egg"))
        assert list(available(readings)) == ["base", "task"]
        events = backend.stream(Request(Prompt("x"), Sampling(60)))
        next(events)
        events.close()
        scaled = backend.model_info({"task": 0.0})
        assert scaled["task"].fingerprint == scaled["base"].fingerprint


def test_merged_streams_close_each_other() -> None:
    closed = []

    def counts(name: str, until: int):
        try:
            for n in range(until):
                message = yield n
                if message:
                    return
        finally:
            closed.append(name)

    assert sorted(merge_streams({"a": counts("a", 2), "b": counts("b", 1)})) == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
    ]
    both = merge_streams({"a": counts("a", 10**9), "b": counts("b", 10**9)})
    next(both)
    both.send([("a", "stop")])
    both.close()
    assert sorted(closed) == ["a", "a", "b", "b"]

    def fails():
        yield 1
        raise ModelError("no")

    with pytest.raises(ModelError):
        list(merge_streams({"a": fails(), "b": counts("b", 10**9)}))
