"""The Evaluate tab in a real browser, over the scripted backend."""

from __future__ import annotations

import json

import pytest
from page import serious
from scripted import SCRIPT, eventually, scripted

pytestmark = pytest.mark.browser
ANSWERS = {**SCRIPT, "base": ["It", " is", " positive", "."], "instruct": ["negative"]}
DONE = "#evaluate-status .line[data-kind=done]"


def opened(visit, url, **settings):
    page = visit(url, **settings)
    page.get_by_role("tab", name="Evaluate").click()
    page.wait_for_selector("#evaluate-run")
    return page


def only(page, task) -> None:
    """Choose one task and the instruction form."""
    for box in page.locator("#evaluate-tasks input, #evaluate-forms input").all():
        box.uncheck()
    page.get_by_label(task).check()
    page.get_by_label("Instruction", exact=True).locator("visible=true").check()


def run(page) -> None:
    page.click("#evaluate-run")
    page.wait_for_selector(DONE, timeout=20_000)


def row(page) -> list[str]:
    return page.locator(".score-line").first.locator(".score b").all_text_contents()


def test_a_table_of_scores_comes_with_every_way_to_score(serve, visit) -> None:
    page = opened(visit, serve(scripted(ANSWERS, 0.0)))
    only(page, "Sentiment of a review")
    run(page)
    assert page.text_content(".task-line th") == "Sentiment of a reviewheld-out"
    assert row(page) == ["50", "0", "50"]
    page.get_by_role("radio", name="Valid answers").click()
    assert row(page) == ["0", "0", "100"]
    page.keyboard.press("ArrowRight")
    assert row(page) == ["100", "100", "100"]
    assert page.text_content(".results-explain").startswith("Share of answers that end")


def test_the_download_is_the_record_of_the_run(serve, visit) -> None:
    page = opened(visit, serve(scripted(ANSWERS, 0.0)))
    only(page, "Sentiment of a review")
    run(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    saved = json.loads(download.value.path().read_text())
    assert {"task", "form", "variant", "scoring", "held_out", "n", "value", "low", "high"} == set(
        saved["rows"][0]
    )
    assert len(saved["replies"]) == 8 * 3


def test_what_earlier_results_hold_is_not_asked_again(serve, visit, tmp_path) -> None:
    page = opened(visit, serve(scripted(ANSWERS, 0.0)))
    only(page, "Sentiment of a review")
    run(page)
    scores = row(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    saved = tmp_path / "saved.json"
    download.value.save_as(saved)
    record = json.loads(saved.read_text())
    saved.write_text(json.dumps({**record, "forms": ["instruction", "zero-shot"]}))

    page = opened(visit, serve(scripted({**ANSWERS, "base": ["negative"]}, 0.0)))
    page.get_by_role("button", name="Go on from earlier results").click()
    page.set_input_files("#earlier-results input[type=file]", saved)
    page.wait_for_function(
        "document.querySelectorAll('#evaluate-tasks input:checked').length === 1"
    )
    run(page)
    assert "Earlier results held 8 of them" in page.text_content("#evaluate-status")
    assert page.locator(".score-line").count() == 2
    assert (
        page.locator(".score-line", has_text="instruction").locator(".score b").all_text_contents()
        == scores
    )


def test_an_item_that_one_variant_got_right_opens_in_compare(serve, visit) -> None:
    page = opened(visit, serve(scripted(ANSWERS, 0.0)))
    only(page, "Sentiment of a review")
    run(page)
    first = page.locator(".results-only li").first
    text = first.locator("q").text_content()
    first.get_by_role("button").click()
    page.wait_for_selector("#compare")
    assert page.input_value("#input textarea") == text
    assert page.input_value("#instruction textarea").endswith("positive or negative.")
    page.click("#compare")
    page.wait_for_selector("#status .line[data-kind=done]", timeout=20_000)


def test_escape_stops_and_what_is_finished_stays(serve, visit) -> None:
    made = []
    page = opened(visit, serve(scripted(ANSWERS, 0.02, made)))
    page.click("#evaluate-run")
    page.wait_for_selector(".results .score-line", timeout=20_000)
    page.keyboard.press("Escape")
    page.wait_for_selector(DONE)
    assert page.text_content("#evaluate-status").strip().startswith("Stopped after")
    assert page.locator(".score-line").count() >= 1
    assert eventually(lambda: not made[0].open_requests)


def test_a_set_of_ones_own_is_asked_instead(serve, visit, tmp_path) -> None:
    path = tmp_path / "mine.csv"
    page = opened(visit, serve(scripted(ANSWERS, 0.0)))
    rows = [("nice <b>day</b>", "positive"), ("bad day", "negative")] * 30
    path.write_text("gold,words\n" + "".join(f"{gold},{text}\n" for text, gold in rows))
    page.get_by_role("button", name="Your own set").click()
    page.set_input_files("#own-file input[type=file]", path)
    page.wait_for_function("document.querySelector('#own-input input').value === 'gold'")
    assert page.get_attribute("#evaluate-limit input[type=range]", "max") == "60"
    for column, name in (("#own-input", "words"), ("#own-label", "gold")):
        page.click(f"{column} input")
        page.locator(column).get_by_role("option", name=name).click()
        assert page.input_value(f"{column} input") == name
    run(page)
    assert page.text_content(".task-line th").startswith("mine.csv")
    # Gradio's session has been forgotten with the columns and the greatest number of items.
    page.fill("#evaluate-limit input[type=number]", "50")
    page.locator("#evaluate-limit input[type=number]").blur()
    page.click("#evaluate-run")
    page.wait_for_selector(f"{DONE}:has-text('150 prompts')")


def test_nothing_chosen_is_one_line(serve, visit) -> None:
    page = opened(visit, serve(scripted()))
    for box in page.locator("#evaluate-tasks input").all():
        box.uncheck()
    page.click("#evaluate-run")
    page.wait_for_selector("#evaluate-status .line[data-kind=error]")
    assert "name a task" in page.text_content("#evaluate-status")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_sideways_and_nothing_is_inaccessible(serve, visit, width, theme) -> None:
    page = opened(visit, serve(scripted(ANSWERS, 0.0)), width=width, theme=theme)
    run(page)
    page.get_by_role("button", name="Your own set").click()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(page) == []
