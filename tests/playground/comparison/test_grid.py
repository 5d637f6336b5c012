"""Nine answers: what each is at a glance, in one batch, stopped alone; the tab and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from page import serious
from scripted import eventually, scripted

from models import (
    UNKNOWN_ID,
    Demonstration,
    Layout,
    Prompt,
    PromptError,
    Queued,
    Request,
    Sampling,
    find_trio,
    looped,
    to_text,
)
from models.backends.fake import FakeBackend
from playground.cli.main import main
from playground.comparison.badges import MEANS, badge, labels_of
from playground.comparison.compare import begin, compare, fold
from playground.comparison.grid import fill, grid_record, prompts_of
from playground.ui.tabs.grid import view

REVIEW = Layout("Review", "Sentiment")
SHOTS = tuple(Demonstration(f"film {n}", label) for n, label in enumerate(("good", "bad") * 2))
FEW = Prompt("", "a new film", SHOTS, REVIEW)


@pytest.fixture
def answer(fake):
    done = compare(fake, "Tell me a joke", max_new_tokens=4)["base"]

    def make_answer(text: str, stopped="eos", ids=(1, 2, 3), sent="<bos>Tell me a joke"):
        return replace(done, text=text, stopped=stopped, ids=tuple(ids),
                       sent=replace(done.sent, text=sent))  # fmt: skip

    return make_answer


@pytest.mark.parametrize(
    ("text", "stopped", "prompt", "expected"),
    [
        ("\nWhy did the chicken …", "eos", Prompt("Tell me a joke"), "answered"),
        (", and I'll tell you", "length", Prompt("Tell me a joke"), "continued"),
        (" about a dog.", "eos", Prompt("Tell me a joke"), "continued"),
        ("\nA dog. Another", "length", Prompt("Tell me a joke"), "limit"),
        ("\n", "cancelled", Prompt("Tell me a joke"), "stopped"),
        ("Tell me a joke, please", "eos", Prompt("Tell me a joke"), "echoed"),
        ("Joke", "eos", Prompt("Joke"), "answered"),  # one word may well be the answer
        (" good", "stop", FEW, "answered"),
        (" Good.\n", "length", FEW, "limit"),
        (" a good film", "stop", FEW, "off-label"),
        (" good", "stop", replace(FEW, demonstrations=SHOTS[:2]), "answered"),
    ],
)
def test_an_answer_is_what_the_first_rule_says(answer, text, stopped, prompt, expected) -> None:
    assert badge(answer(text, stopped, sent=to_text(prompt)), prompt) == expected
    assert expected in MEANS


def test_labels_that_end_in_a_mark_are_labels(answer) -> None:
    shots = tuple(Demonstration(f"{n}?", label) for n, label in enumerate(("Yes.", "No.", "Yes.")))
    prompt = replace(FEW, demonstrations=shots)
    assert badge(answer(" Yes.", "stop", sent=to_text(prompt)), prompt) == "answered"
    assert badge(answer(" Maybe.", "stop", sent=to_text(prompt)), prompt) == "off-label"


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("正面。", ("正面", "负面"), "answered"),
        ("答案是正面", ("正面", "负面"), "answered"),
        ("这是正面的评论", ("正面", "负面"), "off-label"),
        ("e\u0301tonne\u0301", ("étonné", "déçu"), "answered"),
        ("don’t know", ("don't know", "know"), "answered"),
        ("The answer is good.", ("good", "bad"), "answered"),
        ("It is **good**!", ("good", "bad"), "answered"),
        ("not good", ("good", "bad"), "off-label"),
        ("not entailment", ("entailment", "not_entailment"), "answered"),
        ("(B)", ("A", "B"), "answered"),
        ("The answer is B, since it rains.", ("A", "B"), "answered"),
        ("A dog", ("A", "B"), "off-label"),
        ("<think>\nA, or B?\n</think>\nB", ("A", "B"), "answered"),
        ("5 stars", ("1", "5"), "answered"),
        ("4 stars", ("1", "5"), "off-label"),
    ],
)
def test_a_label_is_found_by_evaluates_rule(answer, text, labels, expected) -> None:
    shots = tuple(Demonstration(f"{n}?", label) for n, label in enumerate(labels * 2))
    prompt = replace(FEW, demonstrations=shots)
    assert badge(answer(f" {text}", "stop", sent=to_text(prompt)), prompt) == expected


def test_a_sentence_goes_on_in_any_script(answer) -> None:
    assert badge(answer("и кошка.", sent="<bos>Собака"), Prompt("Собака")) == "continued"
    assert badge(answer("，还有一只猫。", sent="<bos>一只狗"), Prompt("一只狗")) == "continued"


def test_after_a_template_nothing_is_continued(answer) -> None:
    answered = answer("small talk / tell joke", sent="<bos>Tell me a joke\n")
    assert badge(answered, Prompt("Tell me a joke")) == "answered"


def test_what_still_runs_has_no_badge(answer) -> None:
    assert badge(answer("x", None), Prompt("x")) is None


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([7] * 12, True),
        ([7] * 11, False),
        ([1, 2, 3, 4, 5] * 3, True),
        ([9, 8, *[1, 2, 3, 4] * 3], True),
        ([*[1, 2, 3, 4] * 3, 9], False),
        (list(range(40)), False),
        ([], False),
    ],
)
def test_a_loop_comes_round_three_times(ids, expected) -> None:
    assert looped(ids) is expected


def test_a_loop_is_said_before_all_else(answer) -> None:
    assert badge(answer(", and", "length", [5] * 20), Prompt("Tell me a joke")) == "looped"
    assert badge(answer("Ha ha", "loop", [UNKNOWN_ID] * 9), Prompt("Tell me a joke")) == "looped"
    assert badge(answer("Ha ha", "eos", [UNKNOWN_ID] * 30), Prompt("Tell me a joke")) != "looped"


def test_demonstrations_have_labels_where_one_comes_again() -> None:
    assert labels_of(FEW) == {"good", "bad"}
    assert labels_of(replace(FEW, demonstrations=SHOTS[:2])) == frozenset()
    assert labels_of(Prompt("x")) == frozenset()


def test_one_input_is_put_into_all_forms() -> None:
    prompts = prompts_of("a film", "Good or bad?", ["x => good"], REVIEW)
    assert {form: prompt.form for form, prompt in prompts.items()} == {
        form: form for form in prompts
    }
    assert prompts["instruction"] == Prompt("Good or bad?", "a film")
    assert prompts["few-shot"].instruction == ""
    alone = prompts_of("Tell me a joke")
    assert alone["instruction"] == Prompt("Tell me a joke")
    assert alone["few-shot"].layout == Layout("Query", "Answer")
    with pytest.raises(PromptError):
        prompts_of(" ")


def test_nine_cells_say_what_each_says_alone(tiny_backend) -> None:
    prompts = prompts_of("sun", "In Spanish?", ["moon => luna"])
    *_, cells = fill(tiny_backend, prompts, Sampling(12))
    for form, prompt in prompts.items():
        alone = compare(tiny_backend, prompt.input, form=form, instruction=prompt.instruction,
                        examples=prompt.demonstrations, max_new_tokens=12)  # fmt: skip
        assert {r: answer.text for r, answer in cells[form].items()} == {
            r: answer.text for r, answer in alone.items()
        }
        assert all(answer.stopped for answer in cells[form].values())
    record = grid_record(prompts, cells)["cells"]
    assert list(record) == ["instruction", "zero-shot", "few-shot"]
    assert record["few-shot"]["task"]["badge"] in MEANS
    json.dumps(record)


def test_answers_that_repeat_themselves_end_where_asked(tiny_backend) -> None:
    prompts = prompts_of("sun", "In Spanish?", ["moon => luna"])
    sampling = Sampling(60, repetition_penalty=0.5)  # a random model repeats itself then
    *_, on = fill(tiny_backend, prompts, sampling)
    *_, ended = fill(tiny_backend, prompts, sampling, stop_loops=True)
    reasons = [answer.stopped for answers in ended.values() for answer in answers.values()]
    assert "loop" in reasons
    assert "loop" not in [answer.stopped for answers in on.values() for answer in answers.values()]


def test_closing_frees_all_nine_and_one_can_be_stopped_alone() -> None:
    backend = FakeBackend(find_trio(), dict.fromkeys(("base", "task", "instruct"), [" a"] * 500),
                          0.001, 9)  # fmt: skip
    prompts = prompts_of("go on", "", ["x => y"])
    states = fill(backend, prompts, Sampling(400))
    next(states)
    cells = states.send([("few-shot", "base")])
    while cells["few-shot"]["base"].stopped is None:
        cells = next(states)
    assert cells["few-shot"]["base"].stopped == "cancelled"
    assert cells["few-shot"]["task"].stopped is None
    states.close()
    assert eventually(lambda: backend.open_requests == 0)


def test_what_cannot_be_sent_is_said_and_nothing_runs(fake) -> None:
    prompts = prompts_of("word " * 3000, "", ["x => y"])
    with pytest.raises(PromptError):
        next(fill(replace_context(fake, 100), prompts))
    assert fake.open_requests == 0


def replace_context(backend, tokens: int):
    backend.trio = replace(backend.trio, max_context=tokens)
    return backend


def test_the_view_names_what_is_there(fake) -> None:
    prompts = prompts_of("go on", "", ["x => y"])
    *_, cells = fill(fake, prompts, Sampling(5))
    table = view.grid(cells, prompts)
    assert [row["form"] for row in table["rows"]] == ["instruction", "zero-shot", "few-shot"]
    assert {badge["name"] for badge in table["legend"]} == {
        cell["badge"] for row in table["rows"] for cell in row["cells"]
    }
    assert view.finished(cells, prompts).startswith("9 answers: ")


def test_cells_that_wait_say_their_place(fake) -> None:
    prompts = prompts_of("go on")
    cells = {form: begin(fake, Request(prompt)) for form, prompt in prompts.items()}
    waiting = {form: fold(answers, Queued(2)) for form, answers in cells.items()}
    assert view.status(waiting) == "Waiting: place 2 in the line"
    shown = view.grid(waiting, prompts)["rows"][0]["cells"][0]
    assert shown["meta"] == "waiting: place 2 in the line"
    assert view.status(cells) == "Answering"


def test_the_command_prints_nine_cells(monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "playground.cli.prompt_commands.opened", lambda trio: scripted()(trio, print)
    )
    assert main(["grid", "Tell me a joke", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert list(cells) == ["instruction", "zero-shot", "few-shot"]
    assert all(list(answers) == ["base", "task", "instruct"] for answers in cells.values())
    assert cells["instruction"]["task"]["text"] == "small talk / tell joke"
    assert main(["grid", "Tell me a joke"]) == 0
    assert "══ few-shot" in capsys.readouterr().out


def open_grid(page) -> None:
    page.get_by_role("tab", name="Grid").click()
    page.click("#grid-run")
    page.wait_for_function(
        "document.querySelector('#grid-status .line')?.dataset.kind == 'done'", timeout=60_000
    )


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_tab_shows_nine_cells_and_opens_one(serve, visit, width, theme) -> None:
    page = visit(serve(scripted()), width=width, theme=theme)
    open_grid(page)
    assert page.locator(".grid tbody td").count() == 9
    assert page.text_content("#grid-status .line").startswith("9 answers: ")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".grid-form .grid-fold").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.locator(".grid td.folded").count() == 3
    page.locator(".grid thead .grid-fold").first.click()
    assert page.locator(".grid td.folded").count() == 5
    assert page.get_attribute(".grid thead .base .grid-fold", "aria-expanded") == "false"
    page.locator(".grid tbody tr").nth(1).locator(".grid-foot button").first.click()
    page.wait_for_selector("#compare", state="visible")
    assert page.input_value("#input-label input, #input-label textarea") == "Country"


def filling(serve, visit, backends):
    """A page whose grid is being filled, and takes long."""
    endless = dict.fromkeys(("base", "task", "instruct"), [" a"] * 500)
    page = visit(serve(scripted(endless, 0.02, backends)))
    page.get_by_role("tab", name="Grid").click()
    page.fill("#grid-tokens input[type=number]", "128")
    page.click("#grid-run")
    page.wait_for_selector(".grid-text")
    return page


@pytest.mark.browser
def test_stop_ends_all_nine(serve, visit) -> None:
    page = filling(serve, visit, backends := [])
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('#grid-status .line').dataset.kind == 'done'")
    assert "stopped" in page.text_content("#grid-status .line")
    assert eventually(lambda: backends[0].open_requests == 0)


@pytest.mark.browser
def test_filling_again_asks_what_the_fields_hold_now(serve, visit) -> None:
    page = filling(serve, visit, backends := [])
    page.fill("#grid-input textarea", "a later input")
    page.fill("#grid-tokens input[type=number]", "4")
    page.click("#grid-run")
    page.wait_for_function("document.querySelector('#grid-status .line').dataset.kind == 'done'")
    page.wait_for_timeout(500)  # the first run has long said its last
    page.locator(".grid tbody tr").nth(1).locator(".grid-foot button").first.click()
    page.wait_for_selector("#compare", state="visible")
    assert page.input_value("#input textarea") == "a later input"
    assert backends[0].open_requests == 0


@pytest.mark.trio
@pytest.mark.browser
def test_the_real_trio_fills_the_grid(serve, visit, real) -> None:
    page = visit(serve(lambda trio, report: real))
    open_grid(page)
    few = page.locator(".grid tbody tr").nth(2)
    assert few.locator(".base .grid-text").inner_text().strip() == "Paris"
    assert page.locator(".grid td.task .grid-badge").count() == 3
