"""Evaluations: what is asked, what is saved, what goes on from where it was ended."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import pytest
from scripted import SCRIPT, eventually

from models import FORMS, ROLES, Demonstration, Layout, PromptError, find_trio
from models.backends.fake import FakeBackend
from playground.evaluation.config import Plan, named
from playground.evaluation.results import Reply, only_right, paired_differences, scores, table
from playground.evaluation.run import check_out, evaluate, evaluation_record, head_of
from playground.evaluation.task import Item, Task

COLOUR = Task(
    name="colour",
    title="Colour",
    cluster="colour",
    held_out=True,
    licence="",
    source="",
    score="label",
    layout=Layout("Thing", "Colour"),
    labels=("red", "green"),
    instructions=("Which colour? red or green", "Is it red or green?"),
    demonstrations=(Demonstration("blood", "red"), Demonstration("grass", "green")),
    items=tuple(Item(f"thing {n}", "red" if n % 2 else "green") for n in range(6)),
)
JOKES = replace(COLOUR, name="jokes", score="exact", labels=(), held_out=False)
FORMATS = ("[a-z ]+ / [a-z ]+",)


def plan(**changes) -> Plan:
    return Plan(**{"tasks": (COLOUR, JOKES), "max_new_tokens": 5, **changes})


def ended(states):
    for state in states:
        last = state
    return last


def reply(item=0, wording=0, text="green", stopped="eos", variant="base", **changes) -> Reply:
    values = {"label_logprobs": (-1.0, -2.0), "blank_logprobs": (-0.1, -3.0), **changes}
    return Reply("colour", "instruction", variant, item, wording, text, stopped, **values)


def test_every_task_form_and_variant_is_asked_every_item(fake) -> None:
    state = ended(evaluate(fake, plan()))
    assert state.done == state.total == 2 * 3 * 6
    assert len(state.replies) == 2 * 3 * 6 * 3
    assert {reply.text for reply in state.replies if reply.variant == "task"} == {
        "small talk / tell joke"
    }
    cells = {(result.task, result.form, result.variant) for result in state.results()}
    assert cells == {(t, f, v) for t in ("colour", "jokes") for f in FORMS for v in ROLES}
    values = {
        (result.scoring, result.value)
        for result in state.results()
        if (result.task, result.form, result.variant) == ("colour", "zero-shot", "task")
    }
    assert values == {
        ("likelihood", 0.5),
        ("calibrated", 0.5),
        ("generation", 0.0),
        ("valid", 0.0),
        ("ended", 0.0),  # five tokens are its answer, and leave none for the end
        ("task-format", 1.0),
    }


def test_items_are_spread_over_the_wordings(fake) -> None:
    item_wordings = plan().item_wordings
    assert item_wordings(COLOUR, "instruction") == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0), (5, 1)]
    assert item_wordings(COLOUR, "zero-shot") == [(n, 0) for n in range(6)]
    assert plan(limit=1, wordings=9).item_wordings(COLOUR, "few-shot") == [(0, 0), (0, 1)]
    replies = ended(evaluate(fake, plan(tasks=(COLOUR,), forms=("instruction",)))).replies
    assert [
        (reply.item, reply.wording) for reply in replies if reply.variant == "base"
    ] == item_wordings(COLOUR, "instruction")


def test_only_the_named_variants_answer(fake) -> None:
    state = ended(evaluate(fake, plan(variants=("task",))))
    assert {reply.variant for reply in state.replies} == {"task"}


def test_what_was_saved_is_not_asked_again_and_gives_the_same(fake, tmp_path) -> None:
    whole = ended(evaluate(fake, plan()))
    out = tmp_path / "results.json"
    for state in evaluate(fake, plan(), out):
        if state.done == 15:  # in the middle of the third cell
            break
    assert len(json.loads(out.read_text())["replies"]) == 2 * 6 * 3
    changed = FakeBackend(find_trio(), {**SCRIPT, "base": ["changed"]})
    states = evaluate(changed, plan(), out)
    assert [state.done for state in islice(states, 2)] == [6, 12]
    replies = ended(states).replies
    assert replies[: 2 * 6 * 3] == whole.replies[: 2 * 6 * 3]
    assert {reply.text for reply in replies[2 * 6 * 3 :] if reply.variant == "base"} == {"changed"}
    again = ended(evaluate(fake, plan(), out))
    assert again.replies == replies
    saved = json.loads(out.read_text())
    assert saved == json.loads(json.dumps(evaluation_record(head_of(fake, plan()), again)))
    assert not list(tmp_path.glob("*.tmp"))


def test_another_plans_file_is_refused_and_stays(fake, tmp_path) -> None:
    out = tmp_path / "results.json"
    ended(evaluate(fake, plan(), out))
    before = out.read_bytes()
    with pytest.raises(PromptError, match=r"limit was 0 there, and is 2 now\. Take another"):
        next(evaluate(fake, plan(limit=2), out))
    changed = replace(JOKES, items=JOKES.items[1:])
    with pytest.raises(PromptError, match="tasks was"):
        next(evaluate(fake, plan(tasks=(COLOUR, changed)), out))
    assert out.read_bytes() == before
    for text in ("", "[]", '{"replies": [1]}', "x" * 9, "[" * 100_000):
        out.write_text(text)
        with pytest.raises(PromptError, match="is no result of an evaluation"):
            next(evaluate(fake, plan(), out))
        assert out.read_text() == text


def test_a_file_that_lacks_a_reply_is_refused(fake, tmp_path) -> None:
    out = tmp_path / "results.json"
    ended(evaluate(fake, plan(), out))
    saved = json.loads(out.read_text())
    out.write_text(json.dumps({**saved, "replies": saved["replies"][:-1]}))
    with pytest.raises(PromptError, match="jokes, few-shot is not whole there"):
        ended(evaluate(fake, plan(), out))


@pytest.mark.parametrize(
    "wrong",
    [
        {"item": 9999},
        {"item": [1]},
        {"text": 5},
        {"variant": "aloud"},
        {"stopped": "never"},
        {"nats": [-1.0]},
        {"nats": ["x", "y"]},
        {"item": 1},
    ],
)
def test_replies_that_nobody_gave_are_refused(fake, tmp_path, wrong) -> None:
    out = tmp_path / "results.json"
    ended(evaluate(fake, plan(), out))
    saved = json.loads(out.read_text())
    saved["replies"][0] |= wrong
    out.write_text(json.dumps(saved))
    with pytest.raises(PromptError, match=r"results\.json: colour, .* is not whole there"):
        next(evaluate(fake, plan(), out))


def test_a_set_with_a_shipped_tasks_name_takes_nothing_from_it(fake) -> None:
    own = replace(COLOUR, name="domain")
    state = ended(evaluate(fake, plan(tasks=(own,), forms=("zero-shot",))))
    values = {
        result.scoring: result.value for result in state.results() if result.variant == "task"
    }
    assert values["task-format"] == 1.0


def test_a_file_that_cannot_be_written_is_found_before_anything_is_asked(
    fake, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(fake, "stream", lambda request: pytest.fail("It asks."))
    long = f"{'r' * 250}.json"  # a name that is just short enough to be read
    with pytest.raises(PromptError, match=r"none/r\.json: cannot be written"):
        next(evaluate(fake, plan(), tmp_path / "none" / "r.json"))
    with pytest.raises(PromptError, match=r"rr\.json: cannot be written"):
        next(evaluate(fake, plan(), tmp_path / long))
    with pytest.raises(PromptError, match="cannot be written: it is a folder"):
        check_out(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_be_written_stays_as_it_is(fake, tmp_path) -> None:
    out = tmp_path / "results.json"
    check_out(out)
    assert list(tmp_path.iterdir()) == []
    for state in evaluate(fake, plan(), out):
        if state.done == 8:  # in the middle of the second cell
            break
    before = out.read_bytes()
    next(evaluate(fake, plan(), out))
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_holds_all_replies_need_not_be_written(fake, tmp_path) -> None:
    out = tmp_path / f"{'r' * 250}.json"
    ended(evaluate(fake, plan(), tmp_path / "results.json"))
    (tmp_path / "results.json").rename(out)
    assert ended(evaluate(fake, plan(), out)).resumed == 2 * 3 * 6


def test_stopping_ends_what_runs() -> None:
    slow = FakeBackend(find_trio(), SCRIPT, delay_s=0.02, max_rows=12)
    states = evaluate(slow, plan(max_new_tokens=40))
    next(states)
    assert slow.open_requests
    states.close()
    assert eventually(lambda: not slow.open_requests)


def test_an_item_that_cannot_be_sent_is_named(fake) -> None:
    long = replace(JOKES, items=(*JOKES.items, Item("w " * 5000, "x")))
    with pytest.raises(PromptError, match=r"^jokes, item 7: The .* tokens"):
        ended(evaluate(fake, plan(tasks=(long,), forms=("zero-shot",))))
    assert eventually(lambda: not fake.open_requests)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": ()}, "nothing to ask"),
        ({"variants": ()}, "nothing to ask"),
        ({"limit": -1}, "limit is -1; it must be at least 0"),
        ({"wordings": 0}, "wordings is 0"),
        ({"shots": 0}, "shots is 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, says) -> None:
    with pytest.raises(PromptError, match=says):
        plan(**changes)


def test_names_are_looked_up_in_their_order() -> None:
    assert named({"a": 1, "b": 2, "c": 3}, ["c", "a"], "task") == (1, 3)
    with pytest.raises(PromptError, match=r"There is no task 'x'\. There are: a, b\."):
        named({"a": 1, "b": 2}, ["a", "x"], "task")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(), {"likelihood": 0, "calibrated": 1, "generation": 1, "valid": 1, "ended": 1}),
        (reply(stopped="length"), {"generation": 1, "valid": 0, "ended": 0}),
        (reply(stopped="stop"), {"generation": 1, "valid": 1, "ended": 0}),
        (reply(text="It is green."), {"generation": 1, "valid": 0}),
        (reply(text="red"), {"generation": 0, "valid": 1}),
        (reply(text="home / light on"), {"generation": 0, "task-format": 1}),
        (reply(item=1), {"likelihood": 1, "calibrated": 0, "generation": 0}),
    ],
)
def test_a_reply_is_scored_in_every_way(answer, expected) -> None:
    values = scores(COLOUR, answer, FORMATS)
    assert {scoring: values[scoring] for scoring in expected} == expected


def test_text_is_scored_by_what_it_shares() -> None:
    values = scores(
        replace(JOKES, score="text"),
        reply(text="green leaves", label_logprobs=(), blank_logprobs=()),
        (),
    )
    assert values == {"rouge-l": pytest.approx(2 / 3), "ended": 1.0, "task-format": 0.0}


def test_wordings_of_one_item_are_no_further_items() -> None:
    replies = [reply(item, wording, text) for item in range(6) for wording, text in enumerate("gr")]
    replies = [replace(reply, text="green" if reply.text == "g" else "red") for reply in replies]
    result = {result.scoring: result for result in table(COLOUR, replies, FORMATS)}["generation"]
    assert (result.n, result.value) == (6, 0.5)
    assert result.low < 0.5 < result.high


def test_differences_are_paired_and_adjusted() -> None:
    ours = [reply(n, text=COLOUR.items[n].gold, variant="instruct") for n in range(6)]
    theirs = [reply(n, text="none") for n in range(6)]
    differences = paired_differences([COLOUR], [*theirs, *ours], FORMATS)
    difference = next(
        difference for difference in differences if difference.scoring == "generation"
    )
    assert (
        difference.ours,
        difference.theirs,
        difference.value,
        difference.low,
        difference.high,
    ) == ("instruct", "base", 1, 1, 1)
    assert difference.p == pytest.approx(2 / 2**6)
    assert (
        next(difference for difference in differences if difference.scoring == "likelihood").value
        == 0
    )


def test_items_that_only_one_variant_gets_right_are_found() -> None:
    replies = [reply(n, variant=role, text="none") for n in range(3) for role in ROLES]
    replies[4] = replace(replies[4], text="red")  # item 1, task
    assert only_right(COLOUR, replies, FORMATS) == {(1, 0): "task"}
