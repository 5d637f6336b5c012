"""The page in a real browser, over the scripted backend."""

from __future__ import annotations

import threading
import time

import pytest
from page import line_includes, serious, shown, state, text, wait_done
from scripted import SCRIPT, scripted

from models import HeadGate, Progress, TrioError
from models.backends.fake import FakeBackend
from playground.prompting.gallery import read_gallery
from playground.ui import answer_view

FIRST = read_gallery().compare[0]
pytestmark = pytest.mark.browser
PAYLOADS = (
    "<script>window.hacked=1</script>",
    "<img src=x onerror='window.hacked=1'>",
    "${window.hacked=1}${HOME}",
    "{{value}} <unk> <s> <think>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<style>body{background:red}</style>",
    "[x](javascript:window.hacked=1) **bold**",
    "<svg onload='window.hacked=1'>",
    "<details open ontoggle='window.hacked=1'>",
)


def test_three_answers_stream_side_by_side(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.click("#compare")
    wait_done(page)
    assert text(page, "task") == "small talk / tell joke"
    assert text(page, "instruct") == "Why did the chicken cross the road?"
    assert text(page, "base").startswith(", and I'll tell you a story.")
    assert state(page, "task") == "eos"
    meta = page.text_content("#column-task .pane-meta")
    assert meta.startswith("6 tok · first 0.")  # five, and the end of the text
    assert meta.endswith("ended by itself (eos)")


def test_what_was_sent_and_which_weights_are_one_click_away(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.click("#compare")
    wait_done(page)
    page.click("#column-base .pane-sent summary")
    assert page.text_content("#column-base .pane-tokens .tokens") == f"<bos>{FIRST.instruction}"
    assert page.text_content("#column-base .pane-tokens .special") == "<bos>"
    assert page.text_content("#column-base .pane-count").startswith("10 tokens · ")
    page.click("#column-base .token-table summary")
    page.wait_for_selector("#column-base .token-table tr")  # made when it is first opened
    rows = page.eval_on_selector_all("#column-base tr", "all => all.map(one => one.innerText)")
    assert rows[1:3] == ["0\t2\t<bos>\tspecial", "1\t1000\tName\t4e 61 6d 65"]
    page.click("#column-base .pane-weights summary")
    assert "fake-base" in page.text_content("#column-base .pane-weights dl")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_model_text_is_letters_and_nothing_else(serve, visit, payload) -> None:
    page = visit(serve(scripted({**SCRIPT, "instruct": [payload, " end"]})))
    page.fill("#instruction textarea", payload)
    page.click("#compare")
    wait_done(page)
    assert text(page, "instruct") == f"{payload} end"
    page.click("#column-base .pane-sent summary")
    assert payload in page.text_content("#column-base .pane-tokens .tokens").replace("↵\n", "\n")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 0, 0)"


def test_keys_run_and_stop(serve, visit) -> None:
    made = []
    page = visit(serve(scripted({**SCRIPT, "base": [" a"] * 500}, 0.02, made)))
    page.fill("#instruction textarea", "Run on")
    page.focus("#instruction textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#column-base .pane[data-state=writing]")
    page.keyboard.press("Escape")
    wait_done(page)
    assert state(page, "base") == "cancelled"
    assert page.get_attribute("#column-base .pane", "aria-busy") == "false"
    assert "Base: " in page.text_content("#status .line")
    assert "stopped by you" in page.text_content("#status .line")
    assert made[0].open_requests == 0
    assert "Run on" in page.text_content("#column-base .pane-tokens")


def test_a_later_run_of_a_tab_ends_the_earlier_one(serve, visit) -> None:
    made = []
    page = visit(serve(scripted({**SCRIPT, "base": [" a"] * 500}, 0.02, made)))
    page.click("#compare")
    page.wait_for_selector("#column-base .pane[data-state=writing]")
    page.get_by_role("button", name="Boil an egg").click()
    page.wait_for_function(shown("To boil an egg", 1))
    page.wait_for_timeout(600)
    assert made[0].open_requests == 1
    assert state(page, "base") == "writing"
    page.click("#stop")
    wait_done(page)
    assert made[0].open_requests == 0


def test_compare_pressed_again_sends_what_the_fields_hold_now(serve, visit) -> None:
    made = []
    page = visit(serve(scripted({**SCRIPT, "base": [" a"] * 100}, 0.02, made)))
    page.click("#compare")
    page.wait_for_selector("#column-base .pane[data-state=writing]")
    page.fill("#instruction textarea", "Tell me another")
    page.click("#compare")
    page.wait_for_function(shown("Tell me another", 1))
    assert state(page, "base") != "cancelled"
    wait_done(page)
    page.wait_for_timeout(500)  # the first run has long said its last
    assert "Tell me another" in page.text_content("#column-base .pane-tokens")
    assert state(page, "base") == "length"
    assert made[0].open_requests == 0


def test_one_column_stops_and_the_others_go_on(serve, visit) -> None:
    script = {"base": [" a"] * 60, "task": [" b"] * 60, "instruct": [" c"] * 60}
    page = visit(serve(scripted(script, 0.03)))
    page.click("#compare")
    page.wait_for_selector("#column-base .pane[data-state=writing]")
    page.click("#column-base .pane-stop")
    wait_done(page)
    assert state(page, "base") == "cancelled"
    assert 0 < len(text(page, "base")) < 120
    assert text(page, "task") == " b" * 60
    assert "stopped by you" in page.text_content("#column-base .pane-meta")


def test_a_closed_tab_stops_the_work(serve, visit) -> None:
    made = []
    page = visit(serve(scripted({**SCRIPT, "base": [" a"] * 2000}, 0.02, made)))
    page.click("#compare")
    page.wait_for_selector("#column-base .pane[data-state=writing]")
    page.close()
    end = time.monotonic() + 10
    while made[0].open_requests and time.monotonic() < end:
        time.sleep(0.05)
    assert made[0].open_requests == 0


def test_the_page_opens_while_the_trio_loads_and_compare_waits(serve, visit) -> None:
    loaded = threading.Event()

    def slow(trio, report):
        report(Progress("Loading the base", 0.75))
        loaded.wait(60)
        return FakeBackend(trio, SCRIPT)

    page = visit(serve(slow))
    page.wait_for_function(line_includes("loading", "Loading the base · 75%"))
    page.click("#compare")
    page.wait_for_function(line_includes("status", "still loading"))
    loaded.set()
    wait_done(page)
    assert text(page, "task") == "small talk / tell joke"
    page.wait_for_function(line_includes("loading", "Ready. In memory"))


def test_a_trio_that_cannot_be_opened_says_why_on_the_page(serve, visit) -> None:
    def broken(trio, report):
        raise TrioError("The cache folder /x cannot be written. Set TRIPTYCH_CACHE.")

    page = visit(serve(broken))
    page.wait_for_selector("#loading .line[data-kind=error]")
    assert "Set TRIPTYCH_CACHE" in page.text_content("#loading .line")
    page.click("#compare")
    page.wait_for_selector("#status .line[data-kind=error]")
    assert "Set TRIPTYCH_CACHE" in page.text_content("#status .line")


def test_bad_input_is_one_line_and_loses_nothing(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.click("#compare")
    wait_done(page)
    page.fill("#instruction textarea", "y" * 20_001)
    page.click("#compare")
    page.wait_for_selector("#status .line[data-kind=error]")
    assert "20,001 characters" in page.text_content("#status .line")
    assert text(page, "task") == "small talk / tell joke"
    assert len(page.input_value("#instruction textarea")) == 20_001
    page.fill("#instruction textarea", "")
    page.click("#compare")
    page.wait_for_function(line_includes("status", "is empty"))


def test_the_forms_show_the_fields_they_need(serve, visit) -> None:
    page = visit(serve(scripted()))
    assert not page.is_visible("#cue")
    page.get_by_label("Zero-shot").check()
    page.wait_for_selector("#cue textarea", state="visible")
    page.wait_for_selector("#instruction", state="hidden")
    page.get_by_label("Few-shot").check()
    page.wait_for_selector("#demonstrations", state="visible")
    page.wait_for_selector("#instruction textarea", state="visible")


def test_the_table_grows_and_shrinks_and_the_slider_cuts_it(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.get_by_role("button", name="Sentiment, few-shot").click()
    wait_done(page)
    page.wait_for_function(shown("Sentiment:", 5))
    wait_done(page)
    assert FIRST.instruction not in page.text_content("#column-base .pane-tokens")
    page.get_by_label("Remove demonstration 1").click()
    page.click("#compare")
    page.wait_for_function(shown("Sentiment:", 4))
    wait_done(page)
    assert "A warm, funny film." not in page.text_content("#column-base .pane-tokens")
    page.get_by_role("button", name="Add a row").click()
    page.keyboard.type("Not for me.")
    page.keyboard.press("Tab")
    page.keyboard.type("negative")
    page.keyboard.press("Control+Enter")
    page.wait_for_function(shown("Not for me.", 1))
    wait_done(page)
    page.get_by_role("button", name="Shuffle").click()
    page.fill("#shots input[type=number]", "1")
    page.keyboard.press("Tab")
    page.click("#compare")
    page.wait_for_function(shown("Sentiment:", 2))
    wait_done(page)
    page.get_by_role("button", name="Clear").click()
    page.click("#compare")
    page.wait_for_function(line_includes("status", "at least one demonstration"))


def test_an_example_fills_the_fields_runs_and_says_what_to_notice(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.get_by_role("button", name="Boil an egg").click()
    wait_done(page)
    assert page.input_value("#instruction textarea") == "To boil an egg, you first need to"
    assert "What to notice: No request" in page.text_content("#notice")


@pytest.mark.parametrize(
    "field",
    ["#instruction textarea", "#cue textarea, #cue input", "#demonstrations .shots-row input"],
)
def test_what_to_notice_goes_when_the_prompt_is_changed_by_hand(serve, visit, field) -> None:
    page = visit(serve(scripted()))
    page.get_by_role("button", name="Sentiment, few-shot").click()
    wait_done(page)
    page.fill("#shots input[type=number]", "1")  # as the note says
    page.keyboard.press("Tab")
    page.wait_for_timeout(300)
    assert "What to notice: Four" in page.text_content("#notice")
    page.locator(field).first.fill("Something else")
    page.wait_for_function("document.querySelector('#notice .line').textContent === ''")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_sideways_and_nothing_is_inaccessible(serve, visit, width, theme) -> None:
    page = visit(serve(scripted()), width=width, theme=theme)
    page.get_by_role("button", name="Sentiment, few-shot").click()
    wait_done(page)
    for role in ("base", "task", "instruct"):
        page.click(f"#column-{role} .pane-sent summary")
        page.click(f"#column-{role} .pane-weights summary")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [page.locator(f"#column-{role}").bounding_box()["y"] for role in ("base", "instruct")]
    assert (tops[0] < tops[1]) == (width == 390)
    assert serious(page) == []


def test_a_column_can_be_enlarged_and_copied(serve, visit) -> None:
    page = visit(serve(scripted()))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#compare")
    wait_done(page)
    before = page.locator("#column-task").bounding_box()["width"]
    page.click("#column-task .pane-enlarge")
    assert page.locator("#column-task").bounding_box()["width"] > 2 * before
    page.click("#column-task .pane-copy")
    page.wait_for_function(
        "document.querySelector('#column-task .pane-copy').textContent === 'copied'"
    )
    assert page.evaluate("navigator.clipboard.readText()") == "small talk / tell joke"


def test_how_the_output_head_is_computed_is_said_with_its_figures() -> None:
    measured = {
        "positions": 100,
        "candidates": 256,
        "kl": 0.003,
        "top1": 1.0,
        "loss_exact": 4.7,
        "loss_screened": 4.71,
        "exact_s": 0.015,
        "screened_s": 0.005,
    }
    used = answer_view.head(HeadGate(used=True, **measured))
    assert used.startswith(
        "a copy in 8 bits finds at least 256 candidates, exact rows decide (KL 0.0030 nats"
    )
    assert "same in 100.0% of 100 positions, loss 4.700 → 4.710, 15 → 5 ms" in used
    refused = answer_view.head(HeadGate(used=False, reason="it changes what is likely", **measured))
    assert refused.startswith("exact; of a screen in 8 bits: it changes what is likely (KL")
    assert answer_view.head(HeadGate(used=False, reason="no kernel")) == "exact: no kernel"
