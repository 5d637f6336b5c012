"""How the variants were trained: what lies beside the adapters, and the tab that shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from page import serious
from scripted import scripted

from models import find_trio, run_reports
from models.backends.encoding import load_trio_encoders
from models.text.encoder import Encoder
from models.tuning.recipe import Unlikelihood
from playground.training_data.explain import example_rows, known_base
from playground.ui.tabs.trained import view


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    return load_trio_encoders(find_trio(), lambda progress: None)


class Encodes:
    """As much of a backend as rows of tokens need."""

    def __init__(self, encoders) -> None:
        self.encoders = encoders

    def encode(self, prompt):
        return {role: encoder.encode(prompt, "own") for role, encoder in self.encoders.items()}


def test_every_shipped_adapter_tells_how_it_was_made() -> None:
    made = run_reports(find_trio())
    assert set(made) == {"task", "instruct"}
    for report in made.values():
        assert report.rows > 10_000
        assert report.held_out_loss_after < report.held_out_loss_before
        assert len(report.curve) > 400
        assert report.examples
        for row in report.examples:
            assert row.prompt[0] == "<bos>"
            assert row.completion[-1] == "<eos>"
            assert "<bos>" not in row.prompt[1:]


def test_an_adapter_with_nothing_beside_it_tells_nothing(tiny_file) -> None:
    assert run_reports(find_trio("tiny", tiny_file)) == {}
    assert list(known_base("someone/else")) == ["data"]


def test_the_passage_is_a_row_of_each_kind(encoders) -> None:
    rows = example_rows(Encodes(encoders))
    labels = {
        role: "".join(piece.text for piece in row.pieces[row.first_label :])
        for role, row in rows.items()
    }
    assert labels == {
        "base": "To boil an egg, put it into boiling water for eight minutes.",
        "task": "kitchen and dining / cook time<eos>",
        "instruct": "Eight minutes.<eos>",
    }
    for row in rows.values():
        assert [piece.text for piece in row.pieces].count("<bos>") == 1
    assert rows["task"].pieces[rows["task"].first_label - 1].text == "\n"


def test_curves_are_smoothed_to_what_a_screen_can_show() -> None:
    assert view._smoothed([float(n) for n in range(1000)])[:2] == [4.5, 14.5]
    assert view._smoothed([1.0, 2.0]) == [1.0, 2.0]


def test_a_second_stage_is_told_with_what_it_changed() -> None:
    report = run_reports(find_trio())["instruct"]
    settings = Unlikelihood(5e-5, 8, 1, prompts=900)
    two_stages = replace(
        report,
        recipe=replace(report.recipe, unlikelihood=settings),
        looping_answers=1_234,
        unlikelihood_steps=155,
        held_out_prompts=140,
        looped_before=0.2,
        looped_after=0.03,
    )
    facts = {fact["name"]: fact["text"] for fact in view._variant(two_stages, {})["facts"]}
    assert facts["second stage"] == (
        "unlikelihood of what it repeated in 1,234 of its own answers: 155 steps of 8, learning "
        "rate 5e-05"
    )
    assert facts["answers to 140 prompts kept apart that repeat themselves"] == "20% → 3%"
    plain = replace(report, recipe=replace(report.recipe, unlikelihood=None))
    assert "second stage" not in str(view._variant(plain, {})["facts"])


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_tab_shows_rows_masks_and_figures(serve, visit, width, theme) -> None:
    page = visit(serve(scripted()), width=width, theme=theme)
    page.get_by_role("tab", name="How they were trained").click()
    page.wait_for_selector(".kind.instruct h4")
    row = page.locator(".trained-rows .kind.task")
    assert row.locator(".mask-label:not(.none)").all_text_contents() == [
        " kitchen", " and", " dining", " /", " cook", " time", "<eos>",
    ]  # fmt: skip
    assert row.locator(".mask-count").text_content() == "15 tokens, loss on 7 labels"
    assert "15,000" in page.locator(".trained-made .kind.task").text_content()
    for summary in page.locator(".trained-made summary").all():
        summary.click()
    assert page.locator(".trained-made polyline").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
