"""Fields → prompt → text and message."""

from __future__ import annotations

import pytest

from models import Demonstration, Layout, Prompt, PromptError, Sampling
from models.text.render import Message, stop_text, to_message, to_text
from playground.prompting.forms import MAX_CHARACTERS, make_prompt, parse_demonstration

SHOTS = (Demonstration("sun", "sol"), Demonstration("moon", "luna"))
REVIEW = Layout("Review", "Sentiment")


def test_an_instruction_is_the_users_bytes_and_nothing_else() -> None:
    assert to_text(make_prompt("instruction", instruction="Tell me a joke")) == "Tell me a joke"


def test_an_instruction_stands_above_its_input() -> None:
    prompt = make_prompt("instruction", instruction="Translate.", input="Good morning")
    assert to_text(prompt) == "Translate.\n\nGood morning"
    assert to_message(prompt) == Message("Translate.", "Good morning")


def test_zero_shot_is_the_layout_and_its_cue() -> None:
    prompt = make_prompt("zero-shot", input="so dull", layout=REVIEW)
    assert to_text(prompt) == "Review: so dull\nSentiment:"
    assert to_message(prompt) == Message("Review: so dull\nSentiment:")
    assert prompt.form == "zero-shot"


def test_text_ends_in_a_cue_with_no_space() -> None:
    assert to_text(make_prompt("zero-shot", input="so dull")).endswith("\nOutput:")


def test_few_shot_shows_demonstrations_first() -> None:
    prompt = make_prompt("few-shot", instruction="Translate.", input="sea", demonstrations=SHOTS)
    assert to_text(prompt) == (
        "Translate.\n\nInput: sun\nOutput: sol\n\nInput: moon\nOutput: luna\n\nInput: sea\nOutput:"
    )
    assert to_message(prompt).instruction == "Translate."
    assert to_message(prompt).content == to_text(prompt)


def test_the_stop_text_is_where_another_demonstration_would_begin() -> None:
    assert stop_text(make_prompt("zero-shot", input="x", layout=REVIEW)) == "\nReview:"
    assert stop_text(make_prompt("instruction", instruction="x")) is None


def test_the_form_is_read_off_the_content() -> None:
    assert Prompt("x").form == "instruction"
    assert Prompt("", "x", SHOTS, Layout()).form == "few-shot"


@pytest.mark.parametrize(
    ("form", "fields", "says"),
    [
        ("instruction", {}, "instruction is empty"),
        ("instruction", {"instruction": " \n\t"}, "instruction is empty"),
        ("instruction", {"instruction": "x", "demonstrations": SHOTS}, "use few-shot"),
        ("zero-shot", {}, "input is empty"),
        ("zero-shot", {"input": "x", "instruction": "y"}, "holds no instruction"),
        ("zero-shot", {"input": "x", "demonstrations": SHOTS}, "use few-shot"),
        ("few-shot", {"input": "x"}, "at least one demonstration"),
        (
            "few-shot",
            {"input": "x", "demonstrations": [Demonstration("a", "")]},
            "Demonstration 1 has an empty side",
        ),
        ("zero-shot", {"input": "x", "layout": Layout("", "y")}, "label of the input is empty"),
        ("zero-shot", {"input": "x", "layout": Layout("y", " ")}, "cue is empty"),
        ("one-shot", {"input": "x"}, "There is no prompt form 'one-shot'"),
    ],
)
def test_a_form_says_what_it_lacks(form, fields, says) -> None:
    with pytest.raises(PromptError, match=says):
        make_prompt(form, **fields)


def test_a_prompt_that_is_too_long_is_refused_with_both_lengths() -> None:
    with pytest.raises(PromptError, match=r"20,001 characters, and at most 20,000"):
        make_prompt("instruction", instruction="x" * (MAX_CHARACTERS + 1))


def test_forty_demonstrations_are_a_prompt_like_any_other() -> None:
    prompt = make_prompt("few-shot", input="x", demonstrations=SHOTS * 20)
    assert to_text(prompt).count("Output:") == 41


def test_an_example_is_read_at_its_first_arrow() -> None:
    assert parse_demonstration("a => b => c") == Demonstration("a", "b => c")


@pytest.mark.parametrize("text", ["", "a", "=> b", "a =>", "a -> b"])
def test_an_example_without_two_sides_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="not of the form"):
        parse_demonstration(text)


@pytest.mark.parametrize(
    "setting",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**9},
        {"max_new_tokens": 1.5},
        {"max_new_tokens": True},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": None},
        {"temperature": 1e-300},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**31},
    ],
)
def test_a_setting_that_no_sampler_can_do_is_refused_by_name(setting) -> None:
    with pytest.raises(PromptError, match=next(iter(setting))):
        Sampling(**setting)
