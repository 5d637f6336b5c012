"""Links to a prompt: written by the page, read by the page that they open."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from page import shown, wait_done
from scripted import scripted

from models import PromptError
from playground.prompting.gallery import read_gallery
from playground.prompting.links import DEFAULTS, EXAMPLE, fields_of


def test_a_link_fills_what_it_names_and_the_rest_is_as_usual() -> None:
    fields = fields_of("?instruction=Tell+me+a+joke&temperature=0.7&__theme=dark&utm_source=x")
    assert fields == DEFAULTS | {"instruction": "Tell me a joke", "temperature": 0.7}


@pytest.mark.parametrize("query", ["", "?", "?__theme=dark", "?trio=x&=&&a"])
def test_a_link_that_names_no_field_fills_none(query) -> None:
    assert fields_of(query) == {}


def test_demonstrations_stay_in_order_to_the_letter() -> None:
    pairs = [("a => b", "c&d=e"), ("", "ü\n"), ("a => b", "2")]
    sides = [side for pair in pairs for side in zip(EXAMPLE, pair, strict=True)]
    fields = fields_of(f"?form=few-shot&input=x&{urlencode(sides)}")
    assert fields["table"] == [list(pair) for pair in pairs]
    assert fields["shots"] == 3
    assert fields["form"] == "few-shot"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("form=chat", "form is 'chat'; it must be instruction, zero-shot or few-shot"),
        ("format=mine", "format is 'mine'; it must be own or same"),
        ("temperature=hot", "temperature is 'hot'; it must be a number"),
        ("temperature=nan", "temperature is nan; it must be a number from 0 to 10"),
        ("max_new_tokens=1.5", "max_new_tokens is '1.5'; it must be a whole number"),
        ("max_new_tokens=0", "max_new_tokens is 0; it must be a whole number from 1"),
        ("seed=", "seed is ''; it must be a whole number"),
        ("stop_texts=yes", "stop_texts is 'yes'; it must be true or false"),
        ("task_strength=2", "task_strength is 2; it must be from 0 to 1.5"),
        ("max_new_tokens=4096", "max_new_tokens is 4096; it must be from 1 to 512"),
        ("temperature=5", "temperature is 5; it must be from 0 to 2"),
        ("top_p=0.033", "top_p is 0.033; it must be from 0.05 to 1"),
        ("&".join(["example_input=a&example_output=b"] * 9), "shots is 9; it must be from 0 to 8"),
        ("task_strength=nan", "task_strength is nan; it must be from 0 to 1.5"),
        (
            "example_input=a",
            "has 1 example_input and 0 example_output; each",
        ),
        ("input=" + "a" * 80_000, "is longer than 80,000 characters"),
    ],
)
def test_a_value_that_no_field_can_hold_is_one_line(query, says) -> None:
    with pytest.raises(PromptError, match=r"^The link") as caught:
        fields_of(query)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def copied(page) -> str:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#link")
    page.wait_for_function("document.querySelector('#status .line').textContent.includes('copied')")
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.browser
def test_a_copied_link_opens_the_page_as_it_was(serve, visit) -> None:
    url = serve(scripted())
    page = visit(url)
    page.get_by_label("Few-shot").check()
    page.wait_for_selector("#demonstrations .shots-row")
    page.fill("#instruction textarea", "Translate: <b>&=>+")
    page.fill("#input textarea", "river\n100 %")
    page.fill("#cue textarea, #cue input", "Spanish")
    page.fill("#demonstrations .shots-row:nth-child(2) input >> nth=0", "a => b")
    page.get_by_text("Strength of the tuning").click()
    page.fill("#task-strength input[type=number]", "0.5")
    page.get_by_label("Same bytes to all").first.check()
    link = copied(page)
    assert page.url == link
    assert dict(parse_qsl(urlsplit(link).query))["task_strength"] == "0.5"
    theme, _, query = urlsplit(link).query.partition("&")
    assert theme == "__theme=light"
    opened = visit(url, query=f"&{query}")
    opened.wait_for_function("document.querySelector('#input textarea').value !== ''")
    assert opened.input_value("#instruction textarea") == "Translate: <b>&=>+"
    assert opened.input_value("#input textarea") == "river\n100 %"
    assert opened.input_value("#demonstrations .shots-row:nth-child(2) input >> nth=0") == "a => b"
    assert opened.get_by_label("Same bytes to all").first.is_checked()
    assert copied(opened) == link
    opened.click("#compare")
    wait_done(opened)


@pytest.mark.browser
def test_a_link_holds_the_shots_that_are_sent_and_the_address_it_was_copied_at(
    serve, visit
) -> None:
    page = visit(serve(scripted()), query="&embed=yes&temperature=0.5")
    page.get_by_label("Few-shot").check()
    page.wait_for_selector("#demonstrations .shots-row")
    page.fill("#input textarea", "river")
    for side in (0, 1):
        page.fill(f"#demonstrations .shots-rows .shots-row:nth-child(1) input >> nth={side}", "")
    page.fill("#shots input[type=number]", "2")
    page.keyboard.press("Tab")
    named = parse_qsl(urlsplit(copied(page)).query)
    assert named[:2] == [("__theme", "light"), ("embed", "yes")]
    assert [text for name, text in named if name == "example_input"] == ["moon", "water"]
    assert dict(named)["temperature"] == "0.5"
    assert len(named) == len(dict(named)) + 2  # two shots, and nothing else twice
    page.click("#compare")
    page.wait_for_function(shown("moon", 1))
    page.wait_for_function(shown("water", 1))


@pytest.mark.browser
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("temperature=hot", "temperature is 'hot'; it must be a number."),
        ("max_new_tokens=4096", "max_new_tokens is 4096; it must be from 1 to 512."),
    ],
)
def test_a_bad_link_is_one_line_and_the_page_is_as_usual(serve, visit, query, says) -> None:
    page = visit(serve(scripted()), query=f"&instruction=Hello&{query}")
    page.wait_for_selector("#status .line[data-kind=error]")
    assert page.text_content("#status .line") == f"The link: {says}"
    first = read_gallery().compare[0]
    assert page.input_value("#instruction textarea") == first.instruction
    page.click("#compare")
    wait_done(page)
