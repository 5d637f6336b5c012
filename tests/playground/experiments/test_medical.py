"""The medical exercise: one set of answers made into three kinds of rows, none of them held out."""

from __future__ import annotations

import gzip
import json

import pytest
from scripted import SCRIPT

from models import PromptError, find_trio, phrases
from models.backends.fake import FakeBackend
from models.tuning.formatting import format_dataset as training_rows
from models.tuning.recipe import find_recipe, read_recipe
from playground.experiments import medical
from playground.experiments.medical import ARMS, MAX_WORDS, prepare, read_items, split

ANSWER = (
    "Ill# is a disease of the lung# that makes breathing# hard for people of age#. Signs are: "
    "cough#, wheeze#, and a tight chest#. It is treated# with inhalers of kind#. Ask somebody# who "
    "knows about case#."
)


@pytest.fixture
def data(tmp_path):
    """MedQuAD's layout, with sixty diseases made up here."""
    (tmp_path / "med").mkdir()
    rows = [
        {"focus": f"Disease {n}", "question": f"What is  disease {n} ?", "answer": text}
        for n in range(60)
        for text in (ANSWER.replace("#", str(n)), "Too short.")
    ]
    rows.append({**rows[0], "question": "The same answer again ?"})
    rows.append({**rows[0], "focus": "Long", "answer": f"{rows[0]['answer']} x" * 30})
    with gzip.open(tmp_path / "med" / "medquad_6nih_sites.jsonl.gz", "wt") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return tmp_path


def test_answers_are_cut_at_sentences_and_read_once(data) -> None:
    items = read_items(data)
    assert len(items) == 61
    assert items[0].question == "What is disease 0?"
    assert items[0].source.endswith(":1")
    assert len({question.answer for question in items}) == 61
    assert all(len(question.answer.split()) <= MAX_WORDS for question in items)
    assert items[-1].answer.endswith(".")


def test_no_disease_and_no_phrase_is_on_both_sides(data) -> None:
    train, held_out = split(read_items(data))
    assert not {question.focus for question in train} & {question.focus for question in held_out}
    assert len(train) > 40
    assert held_out
    for question in held_out:
        assert not any(phrases(question.answer) & phrases(trained.answer) for trained in train)


def test_the_same_answers_become_three_kinds_of_rows(data, tmp_path) -> None:
    train, held_out = split(read_items(data))
    prepare(train, tmp_path / "out")
    read = {}
    for arm in ARMS:
        recipe = read_recipe(find_recipe(f"medical-{arm}"))
        read[arm] = training_rows(recipe, tmp_path / "out", lambda message: message.content)
    answers = {question.answer for question in train}
    assert {row.completion for row in read["text"].training} <= answers
    assert {row.prompt for row in read["text"].training} == {""}
    assert {row.completion for row in read["questions"].training} <= answers
    assert any("What is disease" in row.prompt for row in read["questions"].training)
    assert len(read["made"].training) > len(train)
    training_text = json.dumps(
        [[row.prompt, row.completion] for arm in read.values() for row in arm.training]
    )
    assert not any(question.answer[60:160] in training_text for question in held_out)


def test_the_three_are_trained_as_long_and_alike() -> None:
    recipes = [read_recipe(find_recipe(f"medical-{arm}")) for arm in ARMS]
    assert len({recipe.training for recipe in recipes}) == 1
    assert len({recipe.lora for recipe in recipes}) == 1
    assert len({recipe.base for recipe in recipes}) == 1


def test_the_table_has_a_row_for_the_base_and_each_arm(data, tmp_path, monkeypatch) -> None:
    tuned = []

    def tune(recipe, rows, out):
        out.mkdir()
        (out / "adapter_model.safetensors").touch()
        tuned.append(recipe)
        return iter(())

    monkeypatch.setattr("models.tune", tune)
    monkeypatch.setattr("models.open_backend", lambda trio: FakeBackend(find_trio(), SCRIPT))
    table = medical.exercise(data, tmp_path / "out", 1, lambda progress: None)
    assert tuned == ["medical-text", "medical-made", "medical-questions"]
    assert [row["tuned on"] for row in table["rows"]] == ["base", *ARMS]
    assert table["rows"][1]["loss on plain text, nats a token"]["value"] == 1.0
    assert table["not"] == "medical advice"
    medical.exercise(data, tmp_path / "out", 1, lambda progress: None)
    assert len(tuned) == 3  # what is there is not tuned again
    with pytest.raises(PromptError, match="from 1 to"):
        medical.exercise(data, tmp_path / "out", 10**6, lambda progress: None)


def test_a_missing_set_names_its_home(tmp_path) -> None:
    with pytest.raises(PromptError, match=r"github\.com/abachaa/MedQuAD"):
        read_items(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(data, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptError, match=r"file/out/data: cannot be written: .* Name another"):
        medical.exercise(data, tmp_path / "file" / "out", 1, lambda progress: None)
