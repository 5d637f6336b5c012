"""One page, several trios: each opens when it is wanted, and is left as one leaves a page."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from page import serious
from scripted import SCRIPT, eventually, scripted

from models import ModelError, Prompt, Request, Sampling, WeightsError, find_trio, read_trios
from models.backends.fake import FakeBackend
from playground.comparison.trio_loader import IDLE_S, TrioLoader, load_trios
from playground.ui.tabs.compare.events import CompareFields, preview

TRIOS = list(read_trios().values())
FIELDS = CompareFields(
    "instruction", "x", "", "Input", "Output", [["", ""]], 8, "own", 8, 0.0, 1.0, 0, 0, True
)
SLOW = {**SCRIPT, "base": [" word"] * 500}


def opened(trio, report) -> FakeBackend:
    return FakeBackend(trio, SCRIPT)


def test_the_first_trio_opens_at_once_and_the_others_on_demand() -> None:
    first, second = load_trios(TRIOS, opened)
    assert eventually(lambda: first.backend is not None)
    assert second.backend is None
    list(second.wait())
    assert second.ready().trio.name == "ablation"


def test_what_nobody_uses_is_closed_for_another_and_opens_again() -> None:
    first, _ = load_trios(TRIOS, opened)
    list(first.wait())
    before = first.ready()
    first.close_if_idle()
    assert first.backend is before  # it was wanted just now
    first.close_if_idle(idle_s=0)
    assert first.backend is None
    with pytest.raises(WeightsError, match="is closed"):
        next(before.stream(Request(Prompt("x"), Sampling())))
    list(first.wait())
    assert first.ready() is not before


def test_whoever_asks_closes_what_is_idle_beside() -> None:
    first, second = load_trios(TRIOS, opened)
    list(first.wait())
    list(second.wait())
    list(second.wait())
    assert first.backend is not None  # used a moment ago
    first._used -= IDLE_S
    list(second.wait())
    assert (first.backend, second.backend is not None) == (None, True)
    with second.used():
        second._used -= IDLE_S
    first.close_if_idle()
    second.close_if_idle()
    assert second.backend is not None  # what was in use was used just now


def test_typing_opens_what_was_closed_for_another() -> None:
    opening = TrioLoader(TRIOS[0], opened)
    list(opening.wait())
    opening.close_if_idle(idle_s=0)
    assert opening.backend is None
    assert preview(opening, FIELDS)["columns"] == []
    assert eventually(lambda: opening.backend is not None)
    assert preview(opening, FIELDS)["columns"]


def test_an_opening_that_failed_is_tried_again() -> None:
    tries = []

    def flaky(trio, report) -> FakeBackend:
        tries.append(trio)
        if len(tries) == 1:
            raise WeightsError("The Hub is away.")
        return FakeBackend(trio, SCRIPT)

    opening = TrioLoader(TRIOS[0], flaky)
    with pytest.raises(ModelError, match="The Hub is away"):
        list(opening.wait())
    list(opening.wait())
    assert opening.ready().trio is TRIOS[0]
    tries.clear()
    opening = TrioLoader(TRIOS[0], flaky)
    opening.begin().wait(5)  # in the background, as the page does
    assert opening.error
    list(opening.wait())
    assert opening.ready().trio is TRIOS[0]


@pytest.mark.browser
def test_any_name_of_a_trio_has_a_page(serve, visit) -> None:
    names = ("config", "a b/c?", "..", "\u00fcber")
    page = visit(serve(scripted(), [TRIOS[0], *(replace(TRIOS[1], name=name) for name in names)]))
    for name in names:
        page.click(".trio-choice summary")
        page.locator(".trio-choice a", has_text=name).click()
        page.wait_for_selector(f".trio-choice summary b:text-is('{name}')")


def test_what_is_in_use_stays_open() -> None:
    opening = TrioLoader(TRIOS[0], opened)
    list(opening.wait())
    with opening.used() as trio:
        opening.close_if_idle(idle_s=0)
        assert opening.backend is trio
    opening.close_if_idle(idle_s=0)
    assert opening.backend is None


def test_two_that_want_a_trio_at_once_open_it_once() -> None:
    made = []

    def counted(trio, report) -> FakeBackend:
        made.append(trio)
        return FakeBackend(trio, SCRIPT)

    opening = TrioLoader(TRIOS[0], counted)
    waits = [threading.Thread(target=lambda: list(opening.wait(0.01))) for _ in range(8)]
    for thread in waits:
        thread.start()
    for thread in waits:
        thread.join(5)
    assert len(made) == 1


def test_a_caller_names_the_trio(serve) -> None:
    client = Client(serve(opened, TRIOS), verbose=False)
    for name in ("gemma-270m", "ablation"):
        result = client.predict("Tell me a joke", trio=name, api_name="/compare")
        assert result["trio"] == name
    with pytest.raises(AppError, match=r"no trio 'nope' here\. There are: gemma-270m, ablation"):
        client.predict("Tell me a joke", trio="nope", api_name="/lens")
    client.close()


@pytest.mark.browser
def test_another_trio_is_another_page_and_leaving_stops_what_runs(serve, visit) -> None:
    made = []
    page = visit(serve(scripted(SLOW, 0.02, made), TRIOS))
    page.click("#compare")
    page.wait_for_function("document.querySelector('#column-base .pane-text').textContent")
    assert made[0].open_requests == 1
    page.click(".trio-choice summary")
    assert serious(page) == []
    page.get_by_role("link", name="ablation").click()
    page.wait_for_url("**/trio-ablation?__theme=light")
    page.wait_for_selector("#column-task .column-model:has-text('no-instructions')")
    assert page.text_content(".trio-choice summary b") == "ablation"
    assert eventually(lambda: not made[0].open_requests, 10)
    page.click("#compare")
    page.wait_for_function("document.querySelector('#column-task .pane-text').textContent")
    assert [backend.trio.name for backend in made] == ["gemma-270m", "ablation"]
    page.wait_for_selector("#status .line[data-kind=done]", timeout=60_000)
    assert serious(page) == []
    page.focus(".trio-choice summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#column-task .column-model:has-text('clinc-intents')")


@pytest.mark.browser
def test_with_one_trio_there_is_nothing_to_choose(serve, visit) -> None:
    page = visit(serve(scripted(), [find_trio()]))
    assert page.locator(".trio-choice").count() == 0
    assert page.text_content(".masthead .trio") == "trio gemma-270m"
