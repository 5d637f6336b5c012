"""The embedded trio behind real servers; docs/own-models.md says how each is started.

TRIPTYCH_SERVERS names a trio file with the trios `vllm`, `llama-cpp` and `transformers`, or some of
them.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from endpoint import JOKE, events_by_role

from models import ROLES, Request, Sampling, ScoreRequest, Unavailable, open_backend, read_trios
from playground.comparison.compare import begin, finish, follow

TRIOS = os.environ.get("TRIPTYCH_SERVERS", "")
SERVERS = ("vllm", "llama-cpp", "transformers")
pytestmark = pytest.mark.server


@pytest.fixture(params=SERVERS)
def served(request):
    trios = read_trios(Path(TRIOS)) if TRIOS else {}
    if request.param not in trios:
        pytest.skip(f"TRIPTYCH_SERVERS names no trio file with {request.param!r}")
    return trios[request.param]


def test_a_server_answers_as_the_variants_do_here(served) -> None:
    with closing(open_backend(served)) as backend:
        both, base_alone = (
            finish(follow(begin(backend, request), backend.stream(request)))
            for request in (Request(JOKE, Sampling(24), roles=roles) for roles in (ROLES, ["base"]))
        )
    assert {role: answer.error for role, answer in both.items()} == dict.fromkeys(ROLES)
    assert both["task"].text.strip() == "small talk / tell joke"
    assert (both["task"].stopped, both["base"].stopped) == ("eos", "length")
    assert both["instruct"].text.strip()
    # No adapter of another column's request may take part in the base's.
    assert both["base"].text == base_alone["base"].text


def test_a_server_says_why_it_cannot_answer(served) -> None:
    variants = [replace(v, source=replace(v.source, model="no/such")) for v in served.variants]
    with closing(open_backend(replace(served, variants=tuple(variants)))) as backend:
        for *_, stop in events_by_role(backend).values():
            if stop.error:  # some servers answer to any name
                assert "no/such at http" in stop.error
                assert "\n" not in stop.error


def test_a_server_takes_part_in_the_lens_as_far_as_it_can(served) -> None:
    with closing(open_backend(served)) as backend:
        *_, scores = backend.score(ScoreRequest(JOKE, "own", top=5))
    for score in scores.values():
        if isinstance(score, Unavailable):
            assert score.reason == "its server tells no log-probabilities"
        else:
            assert score.distributions[-1].top
