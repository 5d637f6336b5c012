"""Tasks: what ships is whole and balanced, and what is wrong is named."""

from __future__ import annotations

from collections import Counter

import pytest

from models import PromptError, to_text
from playground.evaluation.task import TASKS, read_task, shipped_tasks

GOOD = """
title = "Colour"
cluster = "colours"
held_out = true
licence = "CC0-1.0"
source = "a test"
score = "label"
layout = { input = "Thing", output = "Colour" }
labels = ["red", "green"]
instructions = ["Name the colour.", "Which colour is it?"]
demonstrations = [["blood", "red"], ["grass", "green"]]
items = [["tomato", "red"], ["lime", "green"]]
"""


@pytest.fixture(scope="module")
def shipped():
    return shipped_tasks()


@pytest.mark.parametrize("name", TASKS)
def test_a_shipped_task_is_whole_and_balanced(shipped, name) -> None:
    task = shipped[name]
    assert len(task.items) == 40
    assert len(task.demonstrations) == 8
    assert len(task.instructions) == 5
    if task.labels:
        golds = Counter(item.gold for item in task.items)
        assert set(golds) == set(task.labels)
        assert max(golds.values()) - min(golds.values()) <= 1
        for instruction in task.instructions:
            assert all(label in instruction for label in task.labels), instruction


def test_tasks_of_both_kinds_ship(shipped) -> None:
    held_out = [task.held_out for task in shipped.values()]
    assert held_out.count(True) >= 3
    assert held_out.count(False) >= 2


def test_a_task_becomes_the_three_forms(tmp_path) -> None:
    path = tmp_path / "colour.toml"
    path.write_text(GOOD)
    task = read_task(path)
    texts = {
        form: to_text(task.prompt(form, "lime", wording=1, shots=1))
        for form in ("instruction", "zero-shot", "few-shot")
    }
    assert texts == {
        "instruction": "Which colour is it?\n\nlime",
        "zero-shot": "Thing: lime\nColour:",
        "few-shot": "Thing: grass\nColour: green\n\nThing: lime\nColour:",
    }


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ('title = "Colour"', "title = 3", "title is 3; it must be a str"),
        ('title = "Colour"', "", "key 'title' is missing"),
        ('title = "Colour"', 'title = "x"\nlabel = 1', "unknown key 'label'"),
        ('title = "Colour"', "title =", "cannot be read as TOML"),
        (
            'score = "label"',
            'score = "rouge"',
            "score is 'rouge'; it must be one of 'label', 'exact'",
        ),
        ('score = "label"', 'score = "exact"', "there are 2 labels"),
        ('["red", "green"]\n', '["red", "red", "green"]\n', "labels has the same text twice"),
        (
            'labels = ["red", "green"]',
            'labels = ["red"]',
            r"demonstrations\[1\] is answered 'green'",
        ),
        ('["lime", "green"]', '["lime", "blue"]', "the labels are: red, green"),
        ('["lime", "green"]', '["lime"]', r"items\[1\] is \['lime'\]"),
        ('["lime", "green"]', '["tomato", "green"]', r"items\[1\] has the input of items\[0\]"),
        ('["lime", "green"]', '["grass", "green"]', r"has the input of demonstrations\[1\]"),
        ('["lime", "green"]', '[" ", "green"]', "must be text, and not empty"),
        ('output = "Colour"', 'cue = "Colour"', "it must name input and output"),
        ('[["tomato", "red"], ["lime", "green"]]', "[]", "an item at least"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, right, wrong, says) -> None:
    assert right in GOOD
    path = tmp_path / "colour.toml"
    path.write_text(GOOD.replace(right, wrong))
    with pytest.raises(PromptError, match=rf"^colour\.toml.*{says}"):
        read_task(path)


def test_one_label_is_none_to_choose_from(tmp_path) -> None:
    path = tmp_path / "colour.toml"
    path.write_text(GOOD.replace('"red", "green"]\n', '"red"]\n').replace('"green"]', '"red"]'))
    with pytest.raises(PromptError, match="there are 1 labels; score = 'label' needs two"):
        read_task(path)
