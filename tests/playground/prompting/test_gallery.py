"""The page's examples: each is a valid prompt, and makes its point on the shipped weights."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from models import FORMS, ROLES, Request, Sampling, find_trio
from playground.comparison.badges import Badge, badge
from playground.comparison.compare import begin, follow
from playground.comparison.grid import fill, prompts_of
from playground.lens.reading import LensRequest, read
from playground.lens.token_scores import available, loss_summary
from playground.prompting.forms import make_prompt
from playground.prompting.gallery import ExpectedAnswer, gallery_for, read_gallery

GALLERY = read_gallery()


def test_every_example_is_a_prompt_with_something_to_notice() -> None:
    assert len(GALLERY.compare) >= 8
    for example in GALLERY.compare:
        prompt = make_prompt(
            example.form,
            instruction=example.instruction,
            input=example.input,
            demonstrations=example.demonstrations,
            layout=None if example.form == "instruction" else example.layout,
        )
        assert prompt == example.prompt
        assert prompt.form == example.form
    for tab in (GALLERY.compare, GALLERY.grid, GALLERY.lens):
        assert len({example.name for example in tab}) == len(tab) >= 3
        assert all(example.notice.endswith(".") for example in tab)


def test_notices_are_only_about_the_answers_of_the_trio_that_gave_them() -> None:
    assert gallery_for(find_trio()) == GALLERY
    others = gallery_for(find_trio("ablation"))
    examples = [*others.compare, *others.grid, *others.lens]
    assert [e.name for e in examples] == [
        e.name for e in (*GALLERY.compare, *GALLERY.grid, *GALLERY.lens)
    ]
    assert {example.notice for example in examples} == {""}


def test_every_answer_is_expected_in_words_that_a_badge_can_have() -> None:
    cells = [example.answers for example in GALLERY.compare]
    for example in GALLERY.grid:
        assert list(example.answers) == list(FORMS)
        cells += example.answers.values()
    for answers in cells:
        assert list(answers) == list(ROLES)
        for expected in answers.values():
            assert any(re.fullmatch(expected.badge, name) for name in get_args(Badge))


@pytest.mark.parametrize(
    ("badge", "text", "met"),
    [
        ("answered", " Paris.\n", True),
        ("answered", "Paris. And Rome", False),
        ("answered", "It is\nParis.", True),
        ("looped", "Paris.", False),
        ("unanswered", "Paris.", False),
    ],
)
def test_an_answer_meets_an_expectation_as_a_whole(badge, text, met) -> None:
    assert ExpectedAnswer("answered|limit", ".*Paris.?").is_met_by(badge, text) is met


def differences(where, prompt, answers, expected) -> list[str]:
    """Return a line for each answer that is not as expected."""
    kinds = {role: badge(answer, prompt) or "" for role, answer in answers.items()}
    return [
        f"{where}, {role}: {kinds[role]}, {answers[role].text!r}"
        for role in ROLES
        if not expected[role].is_met_by(kinds[role], answers[role].text)
    ]


@pytest.mark.trio
def test_every_example_of_compare_makes_its_point(real) -> None:
    wrong: list[str] = []
    for example in GALLERY.compare:
        request = Request(example.prompt, Sampling(), stop_loops=True)  # as the page asks
        *_, answers = follow(begin(real, request), real.stream(request))
        wrong += differences(example.name, example.prompt, answers, example.answers)
    assert wrong == []


@pytest.mark.trio
def test_every_example_of_the_grid_makes_its_point(real) -> None:
    wrong: list[str] = []
    for example in GALLERY.grid:
        prompts = prompts_of(
            example.input, example.instruction, example.demonstrations, example.layout
        )
        *_, grid = fill(real, prompts, Sampling(32))
        for form, answers in grid.items():
            where = f"{example.name}, {form}"
            wrong += differences(where, prompts[form], answers, example.answers[form])
    assert wrong == []


@pytest.mark.trio
def test_every_example_of_the_lens_makes_its_point(real) -> None:
    for example in GALLERY.lens:
        request = LensRequest(
            example.text, example.format, example.answer_of, example.word, Sampling(32)
        )
        *_, reading = read(real, request)
        losses = reading.cost or {
            role: loss_summary(scores, answer=example.answer_of is not None)
            for role, scores in available(reading.scores).items()
        }
        assert example.least_loss or example.most_loss
        ranked = sorted(ROLES, key=lambda role: losses[role].mean_loss)
        assert example.least_loss in (None, ranked[0]), f"{example.name}: {losses}"
        assert example.most_loss in (None, ranked[-1]), f"{example.name}: {losses}"
