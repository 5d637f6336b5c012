"""The line that says with which settings answers were made."""

from __future__ import annotations

import pytest

from models import Prompt, Request, Sampling
from playground.comparison.settings import settings_line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "greedy · 64 tokens"),
        ({"strengths": {"task": 0.5, "instruct": 1.0}}, "greedy · 64 tokens · task × 0.5"),
        ({"stop_loops": False}, "greedy · 64 tokens · loops run on"),
        ({"sampling": Sampling(8, top_p=0.5, min_p=0.1, seed=3)}, "greedy · 8 tokens"),
        (
            {"sampling": Sampling(8, 0.7, 0.9, 40, 3, 0.05, 1.15, 0.5, -0.25)},
            "temperature 0.7 · seed 3 · 8 tokens · top-p 0.9 · top-k 40 · min-p 0.05 · repetition "
            "penalty 1.15 · presence penalty 0.5 · frequency penalty -0.25",
        ),
        (
            {"sampling": Sampling(repetition_penalty=1.2)},
            "greedy · 64 tokens · repetition penalty 1.2",
        ),
    ],
)
def test_what_differs_from_the_usual_is_said(changes, line) -> None:
    request = Request(**{"prompt": Prompt("x"), "stop_loops": True, **changes})
    assert settings_line(request) == line
