"""Events → answers, in Python and as JSON."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from scripted import SCRIPT, eventually

from models import Prompt, PromptError, Queued, Request, Sampling, Stop, Token
from models.backends.fake import FakeBackend
from playground.comparison import records
from playground.comparison.compare import begin, compare, finish, fold, follow

PROMPT = Prompt("Tell me a joke")


def test_compare_answers_for_every_variant(fake) -> None:
    answers = compare(fake, "Tell me a joke", max_new_tokens=4)
    assert {role: answer.text for role, answer in answers.items()} == {
        "base": ", and I'll tell you",
        "task": "small talk / tell",
        "instruct": "Why did the chicken",
    }
    assert {answer.stopped for answer in answers.values()} == {"length"}


def test_examples_alone_make_a_few_shot_prompt(fake) -> None:
    answers = compare(fake, "sea", examples=["sun => sol"])
    assert answers["base"].sent.text == "<bos>Input: sun\nOutput: sol\n\nInput: sea\nOutput:"


def test_with_an_instruction_the_text_is_the_input(fake) -> None:
    answers = compare(fake, "sea", instruction="Translate.")
    assert answers["base"].sent.text == "<bos>Translate.\n\nsea"


@pytest.mark.parametrize(
    ("text", "settings"),
    [("", {}), ("x", {"temperature": -1.0}), ("x", {"max_new_tokens": 0}), ("y" * 20_001, {})],
)
def test_what_cannot_be_sent_is_refused_before_anything_runs(fake, text, settings) -> None:
    with pytest.raises(PromptError):
        compare(fake, text, **settings)
    assert fake.open_requests == 0


def test_folding_is_pure_and_keeps_times(fake) -> None:
    start = begin(fake, Request(PROMPT))
    waiting = fold(start, Queued(2))
    assert waiting["base"].place == 2
    first = fold(waiting, Token("base", 7, "Hi", -0.5, 0.25))
    second = fold(first, Token("base", 8, "", -0.5, 0.75))
    done = fold(second, Stop("base", "length", 0.75, "\ufffd"))
    assert start["base"].ids == ()
    assert done["base"] == replace(
        start["base"],
        text="Hi\ufffd",
        ids=(7, 8),
        first_token_s=0.25,
        last_token_s=0.75,
        stopped="length",
    )
    assert done["base"].tokens_per_s == 2.0
    assert first["base"].tokens_per_s is None
    assert done["task"] == replace(start["task"], place=2)


def test_a_variant_that_answers_does_not_wait_when_another_part_of_its_trio_does(fake) -> None:
    answers = begin(fake, Request(Prompt("Tell me a joke")))
    answers = fold(fold(answers, Queued(2)), Token("base", 5, "a", -1.0, 0.1))
    answers = fold(answers, Queued(1))
    assert [answer.place for answer in answers.values()] == [0, 1, 1]


def test_closing_an_answer_closes_its_stream(fake) -> None:
    states = follow(begin(fake, Request(PROMPT)), fake.stream(Request(PROMPT)))
    next(states)
    assert fake.open_requests == 1
    states.close()
    assert eventually(lambda: fake.open_requests == 0)


def test_a_record_is_all_that_it_takes_to_ask_again(fake) -> None:
    answers = compare(fake, "Tell me a joke", max_new_tokens=4)
    record = records.comparison_record("gemma-270m", Request(PROMPT, Sampling(4)), answers)
    assert list(record) == [
        "trio",
        "form",
        "format",
        "stop_texts",
        "stop_loops",
        "prompt",
        "sampling",
        "answers",
    ]
    assert (record["trio"], record["form"], record["format"]) == (
        "gemma-270m",
        "instruction",
        "own",
    )
    assert record["prompt"] == {
        "instruction": "Tell me a joke",
        "input": "",
        "demonstrations": (),
        "layout": None,
    }
    assert list(record["answers"]["base"]) == [
        "text", "sent", "prompt_tokens", "new_tokens", "stopped", "first_token_s", "tokens_per_s",
        "error", "reasoning", "notes", "weights",
    ]  # fmt: skip
    assert list(record["answers"]["base"]["weights"]) == [
        "model", "adapter", "precision", "dtype", "device", "fingerprint", "head",
            "strength", "changes_nothing", "steps",
    ]  # fmt: skip


def test_ten_people_at_once_each_get_their_own_answer_in_turn(fake) -> None:
    fake = FakeBackend(fake.trio, SCRIPT, delay_s=0.005)
    answers, places = {}, {}

    def ask(number: int) -> None:
        request = Request(Prompt(f"Tell me joke {number}"), Sampling(number + 1))
        seen = []
        states = follow(begin(fake, request), fake.stream(request))
        answers[number] = finish(seen.append(state["base"].place) or state for state in states)
        places[number] = max(seen)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(10):
        assert answers[number]["base"].new_tokens == number + 1
        assert f"joke {number}" in answers[number]["base"].sent.text
    assert max(places.values()) >= 5  # they saw that they wait
    assert eventually(lambda: fake.open_requests == 0)
