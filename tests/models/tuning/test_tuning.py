"""Recipes, rows, the loss and the loop."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import random
import re
import resource
import tomllib
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from models import TrioError, WeightsError
from models.text.render import Message
from models.tuning import saving, trainer
from models.tuning.datasets import phrases, phrases_of, read
from models.tuning.formatting import FormattedExample, format_dataset
from models.tuning.loss import token_losses
from models.tuning.recipe import (
    ABOVE_ZERO,
    FOLDER,
    SHARES,
    Decontamination,
    Lora,
    Recipe,
    Source,
    Training,
    Unlikelihood,
    find_recipe,
    read_recipe,
)
from models.tuning.setup import round_to_nf4
from playground.evaluation.public_datasets import public_tasks
from playground.evaluation.task import shipped_tasks
from playground.experiments.model_cards import INSTRUCTIONS
from playground.prompting.gallery import read_gallery


def wrap(message: Message) -> str:
    return f"<{message.instruction}|{message.input}>"


def recipe(**changes) -> Recipe:
    base = {
        "name": "r",
        "wraps": "chat",
        "base": "x",
        "seed": 0,
        "lora": Lora(2, 4),
        "training": Training(1e-2, 4, 2, save_every=2, max_tokens=64),
        "sources": (),
    }
    return Recipe(**{**base, **changes})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read_and_names_its_sources(path) -> None:
    shipped = read_recipe(path)
    assert shipped.name == path.stem
    assert all(source.home and source.licence and source.attribution for source in shipped.sources)


@pytest.mark.parametrize("name", ["clinc-intents", "instruct", "no-instructions"])
def test_an_adapter_lies_beside_the_recipe_and_the_figures_that_made_it(name) -> None:
    folder = FOLDER.parent / "adapters" / name
    made_by = read_recipe(folder / "recipe.toml")
    assert made_by == read_recipe(find_recipe(name))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (made_by.lora.rank, made_by.lora.alpha)
    assert config["base_model_name_or_path"] == made_by.base.partition("@")[0]
    weights = load_file(folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert (folder / "adapter_model.safetensors").stat().st_size <= 8_000_000
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"]
    assert "Gemma Terms of Use" in (folder / "README.md").read_text()


WHOLE = 'name = "x"\nwraps = "chat"\nbase = "b"\nseed = 0\nlora = { rank = 2, alpha = 4 }\n'
STEPS = "[training]\nlearning_rate = 1e-3\nbatch_rows = 2\nepochs = 1\nmax_tokens = 9\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 3", "key 'wraps' is missing"),
        ("nmae = 'x'", "unknown key 'nmae'"),
        ("name = [", "cannot be read as TOML"),
        (f"{WHOLE}{STEPS}save_every = 0\n[[sources]]", "save_every is 0; it must be a whole"),
        (f"{WHOLE}{STEPS}warmup = 5\n[[sources]]", "warmup is 5; it must be a number from 0 to 1"),
        (f"sources = 3\n{WHOLE}{STEPS}", "sources is 3; it must be tables"),
    ],
)
def test_a_mistake_in_a_recipe_says_where(tmp_path, text, says) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TrioError, match=says) as caught:
        read_recipe(path)
    assert "mine.toml" in str(caught.value)


def test_what_is_asked_of_a_key_is_asked_of_a_field() -> None:
    kinds = (Lora, Training, Unlikelihood, Source, Recipe)
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert fields >= ABOVE_ZERO | SHARES


def test_an_unknown_recipe_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(
        TrioError, match=r"Shipped: clinc-intents, instruct, medical-made, .*no-instructions"
    ):
        find_recipe("nope")


def source(reader, file, **changes) -> Source:
    return Source(reader, file, "home", "licence", "attribution", **changes)


def rows_of(folder, *sources, **changes) -> list[FormattedExample]:
    return list(format_dataset(recipe(sources=sources, **changes), folder, wrap).training)


def test_missing_data_is_answered_with_its_public_home(tmp_path) -> None:
    with pytest.raises(WeightsError, match="Its public home: home"):
        format_dataset(recipe(sources=(source("dolly", "none.jsonl"),)), tmp_path, wrap)


def test_intents_are_rows_of_bare_utterance_and_label(tmp_path) -> None:
    (tmp_path / "domains.json").write_text('{"small_talk": ["tell_joke"]}')
    (tmp_path / "data.json").write_text('{"train": [["a joke please", "tell_joke"]]}')
    rows = rows_of(tmp_path, source("clinc", "data.json"), wraps="text")
    assert rows == [FormattedExample("a joke please\n", "small talk / tell joke")]


def lines(path, *records) -> None:
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)


def test_instruction_rows_are_wrapped_and_cleaned(tmp_path) -> None:
    record = {"instruction": "Say when. ", "context": "It was 1900.[3]", "response": " 1900[12]\n"}
    lines(tmp_path / "d.gz", record, {**record, "response": "x" * 700})
    rows = rows_of(tmp_path, source("dolly", "d.gz"))
    assert rows == [FormattedExample("<Say when.|It was 1900.>", "1900", special=True)]


def test_dropped_tasks_and_words_are_in_no_row(tmp_path) -> None:
    task = {"definition": ["Do."], "instances": [{"input": "a", "output": ["b"]}]}
    lines(tmp_path / "s.gz", {**task, "task": "task001_x"}, {**task, "task": "task002_y"})
    only = source("superni", "s.gz", drop_tasks=("task001",))
    assert len(rows_of(tmp_path, only)) == 1
    with pytest.raises(TrioError, match=r"no row of s\.gz is left of 2: 2 are left out"):
        rows_of(tmp_path, source("superni", "s.gz", drop_words=("do.",)))


def test_a_source_of_which_nothing_is_left_is_named(tmp_path) -> None:
    record = {"instruction": "Say it.", "response": "It, and not another good thing."}
    lines(tmp_path / "o.gz", record)
    only = source("oasst", "o.gz")
    with pytest.raises(
        TrioError, match=r"0 overlap with evaluation data, and none of the others has"
    ):
        rows_of(tmp_path, only, instructions=False)  # and it has no input
    (tmp_path / "items.csv").write_text("say it, it and not another good thing,x\n")
    avoided = (Decontamination("items.csv", "home"),)
    with pytest.raises(TrioError, match=r"of 1: 0 are left out by its settings, 1 overlap"):
        rows_of(tmp_path, only, avoid=avoided)
    with pytest.raises(TrioError, match=r"every row is held out\. Lower held_out_rows, which is 5"):
        rows_of(tmp_path, only, held_out_rows=5)


def test_without_instructions_the_same_rows_are_taken(tmp_path) -> None:
    texts = [
        {"instruction": f"Do {n}.", "context": f"in {n}", "response": f"{n}."} for n in range(90)
    ]
    lines(tmp_path / "d.gz", *texts)
    lines(tmp_path / "o.gz", *({**text, "context": ""} for text in texts))
    some = source("dolly", "d.gz", rows=20)
    both = format_dataset(recipe(sources=(source("oasst", "o.gz", rows=9), some)), tmp_path, wrap)
    alone = rows_of(tmp_path, some, instructions=False)
    inputs = {row.prompt.partition("|in")[2] for row in both.training} - {""}
    assert {row.prompt.removeprefix("<in").replace("|", "") for row in alone} == inputs
    assert len(alone) == 20


def test_what_is_left_out_is_counted(tmp_path) -> None:
    record = {"instruction": "Say it.", "response": "It, and not another good thing."}
    lines(tmp_path / "o.gz", record, {**record, "response": "x" * 900})
    dataset = format_dataset(recipe(sources=(source("oasst", "o.gz"),)), tmp_path, wrap)
    assert (len(dataset.training), dataset.filtered, dataset.overlapping) == (1, 1, 0)


def test_phrases_of_json_lines_go_on_over_their_line_ends(tmp_path) -> None:
    lines(tmp_path / "i.gz", {"text": "one two three\nfour don’t six\tseven eight"})
    avoided = Decontamination("i.gz", "home")
    assert phrases_of(avoided, tmp_path) >= {"one two three four don t six seven"}


def test_an_answer_that_repeats_itself_is_left_out(tmp_path) -> None:
    record = {"instruction": "Say.", "response": "I am a girl. " * 3}
    lines(tmp_path / "o.gz", record, {**record, "response": "I am a girl. " * 2})
    assert len(rows_of(tmp_path, source("oasst", "o.gz"))) == 2
    (row,) = rows_of(tmp_path, source("oasst", "o.gz", drop_repeating=True))
    assert row.completion == "I am a girl. I am a girl."


def test_poems_and_jokes_are_asked_for_in_several_ways(tmp_path) -> None:
    poem = {"title": "The Sea", "text": "One.\n\nTwo."}
    lines(tmp_path / "poems.gz", *[poem] * 60)
    poems = rows_of(tmp_path, source("poems", "poems.gz"))
    assert {row.completion for row in poems} == {"One.\n\nTwo."}
    assert len({row.prompt for row in poems}) >= 5
    assert all("The Sea" in row.prompt and "{" not in row.prompt for row in poems)
    assert any("2 lines" in row.prompt for row in poems)
    lines(
        tmp_path / "jokes.gz",
        *[{"tags": ["cats"], "text": "Meow."}] * 20,
        {"tags": [], "text": "Ha."},
    )
    jokes = rows_of(tmp_path, source("jokes", "jokes.gz"))
    assert {row.completion for row in jokes} == {"Meow.", "Ha."}
    assert any("cats" in row.prompt for row in jokes)
    assert not any("{" in row.prompt or "about ." in row.prompt for row in jokes)


def test_passages_among_instructions_are_plain_text(tmp_path) -> None:
    record = {"instruction": "Say when.", "context": "It was 1900.", "response": "1900"}
    lines(tmp_path / "d.gz", record, {**record, "context": ""})
    assert rows_of(tmp_path, source("contexts", "d.gz")) == [FormattedExample("", "It was 1900.")]


def test_everyday_rows_are_asked_in_the_wordings_of_their_group(tmp_path) -> None:
    (tmp_path / "e.toml").write_text(
        """
        [[group]]
        wordings = ["Opposite of {}?", "Write the opposite."]
        times = 2
        rows = [["hot", "Cold."], ["{}", "Closed."]]
        [[group]]
        rows = [["Hello!", "Hi!"], ["Who?", "Tom ran.", "Tom."]]
        """
    )
    rows = rows_of(tmp_path, source("everyday", "e.toml"))
    assert {(row.prompt, row.completion) for row in rows} == {
        ("<Opposite of hot?|>", "Cold."),
        ("<Write the opposite.|hot>", "Cold."),
        ("<Opposite of {}?|>", "Closed."),
        ("<Write the opposite.|{}>", "Closed."),
        ("<Hello!|>", "Hi!"),
        ("<Who?|Tom ran.>", "Tom."),
    }


def test_an_item_in_another_wording_neither_demonstrates_itself_nor_is_kept_apart(tmp_path) -> None:
    rows = "".join(f'["q{n}", "a{n}"], ' for n in range(12))
    (tmp_path / "e.toml").write_text(
        f"[[group]]\ntask = 't'\ntimes = 3\nrows = [{rows}]\n"
        "wordings = ['Do.', 'Go on.', 'Now {}!']\n"
    )
    everyday = source("everyday", "e.toml", repeat=2)
    dataset = format_dataset(
        recipe(sources=(everyday,), few_shot=1.0, held_out_rows=6), tmp_path, wrap
    )
    for row in dataset.training:
        number = row.completion.removeprefix("a")
        assert f": a{number}\n" not in row.prompt
        shown = re.findall(r": q(\d+)", row.prompt)
        assert len(set(shown)) == len(shown)
    trained = {row.completion for row in dataset.training}
    assert trained.isdisjoint(row.completion for row in dataset.held_out)


def test_a_plain_text_or_an_answer_that_is_measured_is_left_out(tmp_path) -> None:
    eight = "one two three four five six seven eight"
    record = {"instruction": "Say.", "context": f"Oh, {eight}.", "response": f"Well, {eight}."}
    lines(tmp_path / "d.gz", record, {**record, "context": "No.", "response": "Yes."})
    (tmp_path / "items.csv").write_text(f"{eight},x\n")
    avoided = (Decontamination("items.csv", "home"),)
    for reader, left in (("contexts", "No."), ("dolly", "Yes.")):
        dataset = format_dataset(
            recipe(sources=(source(reader, "d.gz"),), avoid=avoided), tmp_path, wrap
        )
        assert [row.completion for row in dataset.training] == [left]
        assert dataset.overlapping == 1


def test_our_own_rows_are_varied_and_hold_nothing_that_is_measured_or_shown() -> None:
    everyday = list(read(source("everyday", "everyday.toml"), Path("none")))
    assert len({(row.instruction, row.input) for row in everyday}) == len(everyday) >= 400
    assert all(row.output.strip() == row.output and row.output for row in everyday)
    items = tomllib.loads(INSTRUCTIONS.read_text())["item"]
    taken = {item["instruction"].lower() for item in items}
    gallery = read_gallery()
    taken |= {e.instruction.lower() for e in (*gallery.compare, *gallery.grid)} - {""}
    taken |= {example.text.lower() for example in gallery.lens}
    assert taken.isdisjoint(row.instruction.lower() for row in everyday)
    measured = {item.input.lower() for task in shipped_tasks().values() for item in task.items}
    texts = {text for text in measured if len(text.split()) > 2}  # words alone are asked about
    assert texts.isdisjoint(row.input.lower() for row in everyday)


def test_no_wording_of_few_labels_is_asked_about_one_of_them_alone() -> None:
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    counts: Counter[tuple[str, str]] = Counter()
    of_task: dict[str, set[str]] = defaultdict(set)
    for row in read(source("everyday", "everyday.toml"), Path("none")):
        if row.task and row.input:
            labels[row.task, row.instruction].add(row.output)
            counts[row.task, row.instruction] += 1
            of_task[row.task].add(row.output)
    told = {
        key
        for key, seen in labels.items()
        if len(of_task[key[0]]) <= 3 and counts[key] >= 4 and len(seen) == 1
    }
    assert told == set()


def test_few_shot_rows_show_others_of_the_task_and_never_the_item_itself(tmp_path) -> None:
    instances = [{"input": f"q{n}", "output": [f"a{n}"]} for n in range(9)]
    lines(tmp_path / "s.gz", {"task": "task1_x", "definition": ["Do."], "instances": instances})
    rows = rows_of(tmp_path, source("superni", "s.gz"), few_shot=1.0)
    assert len(rows) == 9
    for row in rows:
        number = row.completion.removeprefix("a")
        assert f" a{number}" not in row.prompt
        assert row.prompt.count(f"q{number}") == 1
        assert ": q" in row.prompt


def test_bare_inputs_are_also_written_as_sentences(tmp_path) -> None:
    utterances = ["what's up", "can i go", "tell me, i said.", "is it", "no"]
    intents = json.dumps({"train": [[text, "translate"] for text in utterances]})
    (tmp_path / "data.json").write_text(intents)
    (tmp_path / "domains.json").write_text(json.dumps({"travel": ["translate"]}))
    sources = source("clinc", "data.json")
    rows = rows_of(tmp_path, sources, wraps="text", sentence_case=1.0)
    assert {row.prompt for row in rows} == {
        "What's up?\n", "Can I go?\n", "Tell me, I said.\n", "Is it?\n", "No.\n"
    }  # fmt: skip
    plain = rows_of(tmp_path, sources, wraps="text")
    assert {row.prompt for row in plain} == {f"{text}\n" for text in utterances}


def test_other_wrappers_are_rows_of_plain_text(tmp_path) -> None:
    record = {"instruction": "Say hi.", "context": "", "response": "Hi."}
    lines(tmp_path / "d.gz", *[record] * 40)
    rows = rows_of(tmp_path, source("dolly", "d.gz"), other_wrapper=1.0)
    assert set(rows) == {
        FormattedExample("Say hi.", "\nHi."),
        FormattedExample("Q: Say hi.\nA:", " Hi."),
    }


def quizzes(path, count=30) -> None:
    """A task of short answers: q0 → a0, and so on."""
    instances = [{"input": f"q{n}.", "output": [f"a{n}"]} for n in range(count)]
    lines(path, {"task": "task1_x", "definition": ["Do."], "instances": instances})


def test_rows_kept_apart_stand_nowhere_else_not_even_as_demonstrations(tmp_path) -> None:
    quizzes(tmp_path / "s.gz")
    dataset = format_dataset(
        recipe(sources=(source("superni", "s.gz"),), few_shot=1.0, held_out_rows=10), tmp_path, wrap
    )
    assert (len(dataset.training), len(dataset.held_out)) == (20, 10)
    prompts = " ".join(row.prompt for row in dataset.training)
    for row in dataset.held_out:
        assert f"q{row.completion[1:]}." not in prompts


def test_rows_that_are_repeated_are_not_kept_apart_too(tmp_path) -> None:
    quizzes(tmp_path / "s.gz")
    source_twice = source("superni", "s.gz", rows=20, repeat=2)
    dataset = format_dataset(recipe(sources=(source_twice,), held_out_rows=10), tmp_path, wrap)
    training, held_out = (
        {row.prompt for row in rows} for rows in (dataset.training, dataset.held_out)
    )
    assert (len(dataset.training), len(dataset.held_out)) == (20, 10)
    assert len(training | held_out) == 20
    assert training.isdisjoint(held_out)


def test_a_split_of_its_own_is_kept_apart_but_for_what_was_trained_on(tmp_path) -> None:
    (tmp_path / "domains.json").write_text('{"d": ["i"]}')
    splits = {"train": [["one", "i"], ["two", "i"]], "val": [["two", "i"], ["three", "i"]]}
    (tmp_path / "data.json").write_text(json.dumps(splits))
    sources = source("clinc", "data.json"), source("clinc", "data.json", split="val", held_out=True)
    dataset = format_dataset(recipe(wraps="text", sources=sources), tmp_path, wrap)
    assert {row.prompt for row in dataset.training} == {"one\n", "two\n"}
    assert [row.prompt for row in dataset.held_out] == ["three\n"]


def test_options_hold_the_answer_and_others_of_the_task(tmp_path) -> None:
    quizzes(tmp_path / "s.gz", 60)
    lettered = 0
    for row in rows_of(tmp_path, source("superni", "s.gz"), options=1.0):
        instruction, _, input = row.prompt[1:-1].partition("|")
        offered = re.findall(r"a\d+", row.prompt)
        own = "a" + input.partition(".")[0][1:]
        assert own in offered
        assert 2 <= len(set(offered)) == len(offered) <= 10
        if row.completion in "ABCD":
            lettered += 1
            assert f"{row.completion}: {own}" in input
            assert f"{row.completion}" in instruction
        else:
            assert row.completion == own
    assert lettered


def test_an_answer_that_is_a_list_or_long_is_no_option(tmp_path) -> None:
    answers = ["a0", "a1", "a2, b2", "a3\nb3", "a4 " * 20]
    instances = [{"input": f"q{n}", "output": [answer]} for n, answer in enumerate(answers)]
    lines(tmp_path / "s.gz", {"task": "task1_x", "definition": ["Do."], "instances": instances})
    rows = rows_of(tmp_path, source("superni", "s.gz"), options=1.0)
    assert sum("a0" in row.prompt and "a1" in row.prompt for row in rows) == 2
    assert not any("b2" in row.prompt or "b3" in row.prompt or "a4" in row.prompt for row in rows)


def test_a_source_may_keep_its_answers_from_being_options(tmp_path) -> None:
    quizzes(tmp_path / "s.gz")
    rows = rows_of(tmp_path, source("superni", "s.gz", options=False), options=1.0)
    assert all(len(re.findall(r"a\d+", row.prompt)) == 0 for row in rows)


def test_prompts_with_their_item_inside_have_options_too(tmp_path) -> None:
    records = [{"dataset": "quiz", "prompt": f"Q{n}?", "completion": f"a{n}"} for n in range(9)]
    lines(tmp_path / "p.gz", *records)
    for row in rows_of(tmp_path, source("p3", "p.gz"), options=1.0, few_shot=1.0):
        assert row.prompt.count("Q") == 1
        assert len(re.findall(r"a\d", row.prompt)) >= 2


def test_without_instructions_only_the_inputs_are_left(tmp_path) -> None:
    quizzes(tmp_path / "s.gz", 3)
    record = {"instruction": "Say hi.", "context": "", "response": "Hi."}
    lines(tmp_path / "d.gz", record, {**record, "context": "To me."})
    both = source("superni", "s.gz"), source("dolly", "d.gz")
    rows = rows_of(tmp_path, *both, instructions=False)
    assert {row.prompt for row in rows} == {"<q0.|>", "<q1.|>", "<q2.|>", "<To me.|>"}


def test_a_row_that_shares_eight_words_with_what_is_measured_is_left_out(tmp_path) -> None:
    eight = "one two three four five six seven eight"
    for name, text in (("seven", eight.removesuffix(" eight")), ("eight", f"Oh, {eight.upper()}!")):
        record = {"instruction": f"{name}: {text}", "context": "", "response": "Hi."}
        lines(tmp_path / f"{name}.gz", record)
    (tmp_path / "items.csv").write_text(f'"{eight} nine",x\n')
    avoided = (Decontamination("items.csv", "home"),)
    sources = (source("dolly", "both.gz"),)
    (tmp_path / "both.gz").write_bytes(
        (tmp_path / "seven.gz").read_bytes() + (tmp_path / "eight.gz").read_bytes()
    )
    dataset = format_dataset(recipe(sources=sources, avoid=avoided), tmp_path, wrap)
    assert [row.prompt[:6] for row in dataset.training] == ["<seven"]
    assert dataset.overlapping == 1
    lines(tmp_path / "sets.gz", {"dataset": "a", "prompt": eight}, {"dataset": "b", "prompt": "x"})
    of_b = recipe(sources=sources, avoid=(Decontamination("sets.gz", "home", ("b",)),))
    assert format_dataset(of_b, tmp_path, wrap).overlapping == 0
    with pytest.raises(WeightsError, match=r"none\.csv is missing\. Its public home: home"):
        format_dataset(
            recipe(sources=sources, avoid=(Decontamination("none.csv", "home"),)), tmp_path, wrap
        )


HELD_OUT = {
    "superni": "023 080 081 184 185 186 187 188 189 275 347 393 413 589 859 861 899 900 967 1364 "
    "1508 1530 1552 1554 1582 1609 1704",
    "p3": "paws dbpedia_14 cosmos_qa commonsense_qa",
}
"""Tasks of the clusters that are measured as unseen, and tasks that ask for a wrong answer."""


@pytest.mark.parametrize("name", ["instruct", "no-instructions"])
def test_no_task_of_a_held_out_cluster_is_in_a_recipe(name) -> None:
    for source in read_recipe(find_recipe(name)).sources:
        tasks = HELD_OUT.get(source.reader, "").split()
        wanted = {f"task{task}" if source.reader == "superni" else task for task in tasks}
        assert wanted - {"task1554"} <= set(source.drop_tasks)  # 1554 is not in the extract
        assert source.reader not in ("clinc", "snips", "banking")


@pytest.mark.skipif("TRIPTYCH_DATA" not in os.environ, reason="TRIPTYCH_DATA names no data sets")
@pytest.mark.parametrize("name", ["instruct", "no-instructions"])
def test_no_training_row_shares_eight_words_with_an_item_of_any_task(name) -> None:
    data = Path(os.environ["TRIPTYCH_DATA"])
    measured = [*public_tasks(data).values(), *shipped_tasks().values()]
    items = {phrase for task in measured for item in task.items for phrase in phrases(item.input)}
    dataset = format_dataset(read_recipe(find_recipe(name)), data, wrap)
    shared = [row for row in dataset.training if not items.isdisjoint(phrases(row.prompt))]
    assert (len(shared), dataset.overlapping > 0) == (0, True)


def test_the_losses_are_cross_entropies_and_so_are_their_gradients() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 8, requires_grad=True)
    weight, targets, shares = torch.randn(50, 8), torch.randint(50, (600,)), torch.rand(600)
    (shares * token_losses(hidden, weight, targets)).sum().backward()
    gradient, hidden.grad = hidden.grad, None
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="none")
    (shares * expected).sum().backward()
    torch.testing.assert_close(token_losses(hidden, weight, targets), expected)
    torch.testing.assert_close(gradient, hidden.grad, rtol=1e-4, atol=1e-4)


def test_made_rows_demonstrate_each_other_only_where_all_ask_the_same(tmp_path) -> None:
    with (tmp_path / "rows.jsonl").open("w") as out:
        for n in range(6):
            for method in ("title", "question"):
                row = {"instruction": f"{method} {n}", "input": f"p{n}", "output": f"o{n}"}
                out.write(json.dumps({**row, "method": method, "source": "x"}) + "\n")
    rows = rows_of(tmp_path, source("rows", "rows.jsonl"), few_shot=1.0)
    assert len(rows) == 12
    assert sum(": o" in row.prompt for row in rows) == 6
    assert not any("question" in row.prompt and ": o" in row.prompt for row in rows)


def test_plain_texts_are_rows_without_a_prompt(tmp_path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "To boil an egg."}\n')
    rows = rows_of(tmp_path, source("passages", "t.jsonl"), wraps="none")
    assert rows == [FormattedExample("", "To boil an egg.")]


def test_uniform_logits_lose_the_log_of_the_vocabulary() -> None:
    losses = token_losses(torch.zeros(3, 4), torch.randn(50, 4), torch.tensor([1, 2, 3]))
    torch.testing.assert_close(losses, torch.full((3,), 50.0).log())


def model_with_adapter(dtype=torch.float32):
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=tiny.LINEAR)
    return get_peft_model(tiny.make_model("gemma3").to(dtype), config)


def rows(n: int) -> list[trainer.TokenizedExample]:
    draw = random.Random(0)
    return [
        trainer.TokenizedExample(
            tuple(draw.choices(range(4, 90), k=draw.randint(2, 12))),
            (*draw.choices(range(4, 90), k=draw.randint(1, 5)), 1),
        )
        for _ in range(n)
    ]


def test_the_loss_is_on_completions_alone_and_padding_changes_nothing() -> None:
    model = model_with_adapter()
    batch = rows(3)
    with torch.no_grad():
        together, count = trainer.batch_loss(model, batch)
        assert count == sum(len(row.completion) for row in batch)
        alone = 0.0
        for row in batch:
            ids = torch.tensor([row.prompt + row.completion])
            labels = ids.clone()
            labels[0, : len(row.prompt)] = -100
            alone += float(model(input_ids=ids, labels=labels).loss) * len(row.completion)
    assert float(together) == pytest.approx(alone, rel=1e-4)


def test_prompts_count_with_their_weight() -> None:
    model = model_with_adapter()
    batch = rows(3)
    prompts = [
        trainer.TokenizedExample(row.prompt[:1], row.prompt[1:])
        for row in batch
        if len(row.prompt) > 1
    ]
    with torch.no_grad():
        alone, count = trainer.batch_loss(model, batch)
        of_prompts, prompt_tokens = trainer.batch_loss(model, prompts)
        together, total = trainer.batch_loss(model, batch, prompt_weight=0.25)
    assert total == count + 0.25 * prompt_tokens
    assert float(together) == pytest.approx(float(alone) + 0.25 * float(of_prompts), rel=1e-4)


def test_every_row_is_in_exactly_one_batch_of_an_epoch() -> None:
    all_rows = rows(50)
    batches = trainer.batches(all_rows, 4, random.Random(3))
    assert sorted(row.prompt for batch in batches for row in batch) == sorted(
        r.prompt for r in all_rows
    )
    assert batches == trainer.batches(all_rows, 4, random.Random(3))


def trained(out, steps=None, dtype=torch.float32):
    out.mkdir(exist_ok=True)
    model = model_with_adapter(dtype)
    losses = []
    for step in trainer.train(model, rows(24), recipe(), out):
        losses.append((step.done, step.loss))
        if step.done == steps:
            break
    return model, losses


def test_a_run_that_was_ended_goes_on_to_the_same_result(tmp_path) -> None:
    whole, losses = trained(tmp_path / "whole")
    trained(tmp_path / "parts", steps=7)  # its last checkpoint is that of step 6
    again, also = trained(tmp_path / "parts")
    assert also == losses
    assert len(losses) == 12
    for (name, expected), (_, resumed) in zip(
        whole.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(expected, resumed), name


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path) -> None:
    trained(tmp_path, steps=4)
    steps = trainer.train(model_with_adapter(), rows(24), recipe(seed=1), tmp_path)
    with pytest.raises(WeightsError, match="is of another recipe"):
        next(steps)


def test_a_checkpoint_of_other_rows_is_refused(tmp_path) -> None:
    trained(tmp_path, steps=4)
    steps = trainer.train(model_with_adapter(), rows(25), recipe(), tmp_path)
    with pytest.raises(WeightsError, match="or of other rows"):
        next(steps)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None], ids=["empty", "text", "cut"])
def test_a_damaged_checkpoint_is_named(tmp_path, content) -> None:
    trained(tmp_path, steps=4)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:900] if content is None else content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt is damaged\. Remove it"):
        next(trainer.train(model_with_adapter(), rows(24), recipe(), tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_training_lowers_the_loss(tmp_path, dtype) -> None:
    before = trainer.mean_loss(model_with_adapter(dtype), rows(24), 4)
    model, _ = trained(tmp_path, dtype=dtype)
    assert trainer.mean_loss(model, rows(24), 4) < before - 0.1
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path) -> None:
    trained(tmp_path, steps=4)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    model = model_with_adapter()
    with torch.no_grad():
        model.get_base_model().model.norm.weight.fill_(float("nan"))
    with pytest.raises(WeightsError, match=r"Step 5: the loss is nan\. The last checkpoint"):
        list(trainer.train(model, rows(24), recipe(), tmp_path))
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_adapter_recipe_and_figures_are_saved_together_in_bf16(tmp_path) -> None:
    model, _ = trained(tmp_path)
    saving.save(model, FOLDER / "instruct.toml", recipe(base="package:b@1"), {"n": 1}, tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "package:b"
    assert json.loads((tmp_path / "figures.json").read_text())["n"] == 1
    assert (tmp_path / "recipe.toml").read_text() == (FOLDER / "instruct.toml").read_text()
    assert not list(tmp_path.glob("*.tmp"))


@contextmanager
def full_disk(size: int):
    """Files beyond a size cannot be written: what a full disk does, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_adapter_and_the_old_checkpoint(tmp_path) -> None:
    model, _ = trained(tmp_path, steps=4)
    made_by = recipe(base="package:b@1")
    saving.save(model, FOLDER / "instruct.toml", made_by, {"n": 1}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(2000), pytest.raises(WeightsError, match="cannot be written to"):
        saving.save(model, FOLDER / "instruct.toml", made_by, {"n": 2}, tmp_path)
    with full_disk(2000), pytest.raises(WeightsError, match="What it held stays"):
        trained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    _, losses = trained(tmp_path)
    assert len(losses) == 12


def test_rounding_twice_is_rounding_once_and_leaves_the_head_alone() -> None:
    model = tiny.make_model("gemma3").to(torch.bfloat16)
    head = model.lm_head.weight.clone()
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    round_to_nf4(model)
    once = model.model.layers[0].mlp.up_proj.weight.clone()
    round_to_nf4(model)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, once)
    assert not torch.equal(once, before)
    assert torch.equal(model.lm_head.weight, head)
