"""What the views yield has the keys that the page's JavaScript reads: those in `types.js`."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import Any

import pytest

from models import Prompt, Request, Sampling, find_trio, run_reports
from playground.comparison.compare import begin, compare, follow
from playground.comparison.grid import fill, prompts_of
from playground.lens.quantization import QuantizationReport
from playground.training_data.explain import example_rows
from playground.ui import answer_view, modules
from playground.ui.tabs.evaluate import events as evaluate_events
from playground.ui.tabs.grid import view as grid_view
from playground.ui.tabs.lens import events as lens_events
from playground.ui.tabs.lens import view as lens_view
from playground.ui.tabs.trained import view as trained_view
from playground.ui.work import Run

TYPES = {
    name: {key: kind for kind, key in re.findall(r"@property \{(.+?)\} (\w+)", body)}
    for name, body in re.findall(
        r"@typedef \{object\} (\w+)(.*?)\*/", modules._SOURCES["types.js"].decode(), re.DOTALL
    )
}


def read(value: Any, name: str, seen: set[str]) -> None:
    """Go through a value as its type says; note the types that were met."""
    if isinstance(value, list):
        for part in value:
            read(part, name, seen)
    elif isinstance(value, dict):
        seen.add(name)
        assert set(TYPES[name]) <= set(value), name
        for key, kind in TYPES[name].items():
            for inner in set(re.findall(r"[A-Z]\w+", kind)) & set(TYPES):
                read(value[key], inner, seen)


def types_in(value: Any, name: str) -> set[str]:
    seen: set[str] = set()
    read(value, name, seen)
    return seen


def test_a_key_that_is_missing_is_found() -> None:
    line = {"kind": "busy", "text": "Reading"}
    assert types_in(line, "StatusLine") == {"StatusLine"}
    for key in line:
        with pytest.raises(AssertionError, match="StatusLine"):
            types_in({name: text for name, text in line.items() if name != key}, "StatusLine")


def test_what_compare_and_grid_show(fake) -> None:
    answers = compare(fake, "Tell me a joke", max_new_tokens=4)
    panes = answer_view.panes(answers, answer_view.packed_prompts(answers))
    for pane in panes.values():
        assert types_in(pane, "Pane") == {"Pane", "NamedText"}
        assert types_in(json.loads(pane["sent"]), "SentPrompt") == {"SentPrompt", "SentToken"}
    prompt = Prompt("### Instruction: Tell me a joke ")
    ledger = answer_view.ledger(fake.trio, Request(prompt, Sampling(8)), fake.encode(prompt))
    assert types_in(ledger, "Ledger") >= {"LedgerColumn", "Finding"}
    prompts = prompts_of("go on", "", ["x => y"])
    *_, cells = fill(fake, prompts, Sampling(5))
    shown = types_in(grid_view.grid(cells, prompts), "Grid")
    assert shown == {"Grid", "GridRow", "GridCell", "TitledRole", "NamedText"}


def test_what_the_lens_shows(fake) -> None:
    fields = lens_events.LensFields("To boil an", "same", "", "egg", 4.0, 1.0, 0.9, 0.0)
    *_, last = lens_events.read(fields)(fake, Run())
    lens = json.loads(last["lens"])
    shown = types_in(lens, "Lens")
    assert shown == {"Lens", "LensVariant", "LensTokens", "LensNext", "LossSummary", "WordCost"}
    for variant in lens["variants"]:
        tokens, after = variant["tokens"], variant["next"]
        assert {len(column) for column in tokens.values()} == {4}  # <bos>To boil an
        assert {len(column) for column in after.values()} == {4}
        assert {len(after[name][1]) for name in ("text", "id", "p", "sampled")} == {10}


def test_what_forks_and_rounding_show(fake) -> None:
    request = Request(Prompt("Tell me a joke"), Sampling(4))
    with closing(follow(begin(fake, request), fake.stream(request))) as states:
        *_, answers = states
    fork = lens_view.fork(1.0, "“x”", "To", answers)
    assert types_in(fork, "Fork") == {"Fork", "ForkColumn"}
    rounded = QuantizationReport("base", 4, 0.1, 1.0, None, "a", "a", None)
    assert types_in(lens_view.quantization([rounded]), "Rounding") == {"Rounding"}


def test_what_an_evaluation_shows(fake) -> None:
    fields = evaluate_events.EvaluateFields(
        ["sentiment", "plural"], ["zero-shot"], 4, None, None, None, "", None
    )
    *_, last = evaluate_events.run_evaluation(fields)(fake, Run())
    shown = types_in(last["results"], "Evaluation")
    assert shown >= {"Evaluation", "EvaluationRow", "TitledRole", "Scoring", "PairedDifference"}


def test_what_the_tab_on_training_shows(fake) -> None:
    made = run_reports(find_trio())
    training = trained_view.training(example_rows(fake), made, {"data": "web pages"})
    shown = types_in(training, "Training")
    assert shown == {"Training", "TrainingPassage", "TrainedVariant", "TrainingRow", "NamedText"}
