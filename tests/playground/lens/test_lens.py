"""What variants expect and what texts cost: the sums, the comparison, the forks, the tab."""

from __future__ import annotations

import json
import math
import time

import pytest
from page import serious
from scripted import scripted

from models import (
    ROLES,
    Prompt,
    PromptError,
    Request,
    Sampling,
    ScoreRequest,
    Token,
    TokenDistribution,
    TokenPiece,
    TokenScores,
    TopToken,
    WeightsError,
    find_trio,
    open_backend,
)
from playground.cli.main import main
from playground.comparison.trio_loader import TrioLoader
from playground.lens import score_text
from playground.lens.quantization import coarse_kl, compare_quantization, unquantised
from playground.lens.reading import MAX_CHARACTERS, READINGS, LensRequest, cut_to_context, read
from playground.lens.token_scores import (
    MAX_RANK,
    TokenDifference,
    departure,
    lens_record,
    loss_summary,
    summarise,
    token_differences,
)
from playground.ui.endpoints import records
from playground.ui.tabs.lens import events
from playground.ui.tabs.lens.events import LensFields
from playground.ui.work import Run

V = 262_144


def piece(id: int, text: str = "a") -> TokenPiece:
    return TokenPiece(id, text, False, text.encode())


def reads(role="base", ids=(2, 5, 6, 7), loss=(1.0, 2.0, 3.0), ranks=(1, 2, 60), prompt=2):
    after = [TokenDistribution((), n, r) for n, r in zip(loss, ranks, strict=True)] + [
        TokenDistribution((), None, None)
    ]
    return TokenScores(role, tuple(map(piece, ids)), prompt, tuple(after))


def fields(text="To boil an", format="same", answer_of="", word="", **others) -> LensFields:
    settings = {"max_new_tokens": 6.0, "temperature": 1.0, "top_p": 0.9, "top_k": 0.0, **others}
    return LensFields(text, format, answer_of, word, **settings)


def run(work, backend) -> list[dict]:
    return list(work(backend, Run()))


def test_uniform_losses_sum_to_the_log_of_the_vocabulary() -> None:
    summary = summarise([math.log(V)] * 10, 20)
    assert summary.loss == pytest.approx(10 * math.log(V))
    assert summary.mean_loss == pytest.approx(math.log(V))
    assert summary.perplexity == pytest.approx(V)
    assert summary.bits_per_byte == pytest.approx(10 * 18 / 20)  # 2**18 tokens


def test_tokens_that_are_no_text_have_no_bits_per_byte() -> None:
    assert summarise([1.0], 0).bits_per_byte is None
    assert summarise([1e6], 1).perplexity > 1e300  # not infinite: JSON has no such number


def test_a_text_is_summed_from_its_second_token_and_an_answer_from_its_first() -> None:
    reading = reads()
    assert reading.losses == (None, 1.0, 2.0, 3.0)
    assert loss_summary(reading).tokens == 3
    assert loss_summary(reading).bits_per_byte == pytest.approx(6 / math.log(2) / 3)
    assert loss_summary(reading, answer=True).loss == 5.0
    assert loss_summary(reads(ids=(2,), loss=(), ranks=(), prompt=1)) is None


def test_differences_are_of_the_same_tokens() -> None:
    ours, theirs = reads("task", loss=(0.5, 2.0, 1.0), ranks=(1, 2, 3)), reads()
    first, second, third, fourth = token_differences(ours, theirs)
    assert first is None
    assert second == TokenDifference(pytest.approx(math.exp(-0.5) - math.exp(-1.0)), 0)
    assert third == TokenDifference(0.0, 0)
    assert fourth.rank == MAX_RANK - 3  # rank 60 counts as 50
    other = reads(ids=(2, 9, 8, 6, 7), loss=(1.0, 1.0, 2.0, 3.0), ranks=(1, 1, 2, 60), prompt=3)
    differences = token_differences(other, theirs)  # another prompt, the same answer
    assert differences == [None, None, None, TokenDifference(0.0, 0), TokenDifference(0.0, 0)]


def test_a_variant_parts_where_it_expected_something_else_more() -> None:
    assert departure(reads()) == 2
    assert departure(reads(ranks=(9, 1, 1))) is None  # what the prompt holds was not its own


def test_a_record_tells_the_position_that_was_asked(fake) -> None:
    *_, readings = score_text.score_text(fake, Prompt("To boil an"))
    variant = lens_record(readings, 1)["variants"]["base"]
    assert list(variant)[:3] == ["next", "after", "outside"]
    assert variant["after"] == 1
    assert lens_record(readings, -1) == lens_record(readings)
    assert [loss["nats"] for loss in variant["losses"]] == [None, 1.0, 1.0, 1.0]
    assert sum(it["p"] for it in variant["next"]) + variant["outside"] == pytest.approx(1)
    json.dumps(variant)
    for position in (4, -5, 10**9):
        with pytest.raises(PromptError, match="no token"):
            lens_record(readings, position)


def test_an_answer_under_another_costs_what_it_costs_alone(tiny_backend) -> None:
    prompt, tokens = Prompt("Tell me a joke"), {}
    for event in tiny_backend.stream(Request(prompt, Sampling(10), roles=["instruct"])):
        if isinstance(event, Token):
            tokens[len(tokens)] = event
    answer = score_text.answer_of(tiny_backend, prompt, "instruct", "own", 10)
    assert [token.id for token in answer] == [token.id for token in tokens.values()]
    *_, readings = score_text.score_text(tiny_backend, prompt, format="own", answer=answer, top=3)
    own = readings["instruct"].losses[readings["instruct"].prompt_tokens :]
    assert own == pytest.approx([-token.logprob for token in tokens.values()], abs=0.05)
    assert departure(readings["instruct"]) in (None, *range(100))
    request = ScoreRequest(prompt, "own", {"base": answer}, top=3, roles=["base"])
    *_, alone = tiny_backend.score(request)
    assert readings["base"].losses[1:] == pytest.approx(list(alone["base"].losses[1:]))


def test_a_long_text_is_cut_between_tokens_and_says_so(tiny_backend) -> None:
    text = "To boil an egg, put it into boiling water. " * 40
    kept, note = cut_to_context(tiny_backend, text)
    assert text.startswith(kept)
    assert f"{len(kept):,} characters are read, the last {len(text) - len(kept):,} are not" in note
    *_, readings = score_text.score_text(tiny_backend, score_text.prompt_of(kept))
    assert len(readings["base"].distributions) == tiny_backend.trio.max_context - 1
    assert cut_to_context(tiny_backend, "short") == ("short", "")


def test_a_text_of_broken_characters_is_cut_where_one_ends(tiny_backend) -> None:
    text = "\U00013000" * 300
    kept, note = cut_to_context(tiny_backend, text)
    assert text.startswith(kept)
    assert 0 < len(kept) < len(text)
    assert "-" not in note
    list(score_text.score_text(tiny_backend, score_text.prompt_of(kept)))


@pytest.mark.parametrize("text", ["a", "🐣🐣", "a\u200db\u200d", "é" * 30, "\n", " "])
def test_texts_of_odd_characters_are_read_whole(tiny_backend, text) -> None:
    *_, readings = score_text.score_text(tiny_backend, score_text.prompt_of(text))
    for reading in readings.values():
        assert reading.done
        assert b"".join(p.data for p in reading.pieces).decode() == text


@pytest.mark.parametrize("text", ["", "half \ud83d"])
def test_what_is_no_text_is_refused(tiny_backend, text) -> None:
    with pytest.raises(PromptError):
        run(events.read(fields(text)), tiny_backend)


def test_other_vocabularies_read_no_answer(fake) -> None:
    sent = fake.encode(Prompt("hello"))
    with pytest.raises(PromptError, match="vocabularies"):
        score_text.check_vocabularies({**sent, "task": sent["task"].__class__("x", ())})


def test_the_tab_tells_what_a_word_would_cost(tiny_backend) -> None:
    *_, last = run(events.read(fields(word="egg")), tiny_backend)
    costs = {cost["role"]: cost["loss"] for cost in json.loads(last["lens"])["cost"]}
    word = tiny_backend.encoders["base"].tokens(" egg")
    request = ScoreRequest(Prompt("To boil an"), "same", dict.fromkeys(ROLES, word))
    *_, scores = tiny_backend.score(request)
    for role, score in scores.items():
        assert costs[role] == pytest.approx(sum(score.losses[score.prompt_tokens :]), abs=0.05)


def test_a_word_costs_nothing_where_it_has_no_room(tiny_backend) -> None:
    text, _ = cut_to_context(tiny_backend, "To boil an egg " * 90)
    *_, last = run(events.read(fields(text, word="egg and spoon " * 9)), tiny_backend)
    assert json.loads(last["lens"])["cost"] == []
    assert last["status"]["kind"] == "done"
    assert "must have from 1" in last["status"]["text"]


def test_a_word_costs_what_the_scaled_adapter_makes_of_it(tiny_backend) -> None:
    prompt = Prompt("To boil an")
    costs = score_text.cost(tiny_backend, prompt, "same", "egg", {"task": 0.0})
    assert costs["task"] == costs["base"]
    assert score_text.cost(tiny_backend, prompt, "same", "egg")["task"] != costs["task"]


def test_a_beginning_is_what_all_go_on_from(tiny_backend) -> None:
    ids = score_text.forced_prefix_ids(tiny_backend, Prompt("x"), "own", " egg cup")
    alone = [token.id for token in tiny_backend.encoders["base"].tokens(" egg cup")]
    assert ids == {"base": alone, "task": alone, "instruct": alone}
    assert score_text.forced_prefix_ids(tiny_backend, Prompt("x"), "own", "") == {}


@pytest.mark.parametrize(
    "others", [{"text": ""}, {"top_k": None}, {"max_new_tokens": None}, {"top_p": 3.0}]
)
def test_fields_that_cannot_be_used_are_refused_before_there_is_a_trio(others) -> None:
    with pytest.raises(PromptError):
        events.read(fields(**others))


@pytest.mark.parametrize("others", [{"text": ""}, {"max_new_tokens": None}])
def test_rounding_and_forks_refuse_their_fields_before_there_is_a_trio(others) -> None:
    with pytest.raises(PromptError):
        events.quantization(fields(**others))
    with pytest.raises(PromptError):
        events.fork(fields(**others), {"ids": [5], "id": 4, "format": "own"})


@pytest.mark.parametrize(
    "settings", [{"format": "both"}, {"top": 65}, {"top": -1}, {"top": 3.0}],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tiny_backend, settings) -> None:
    with pytest.raises(PromptError):
        next(score_text.score_text(tiny_backend, Prompt("To boil"), **settings))
    with pytest.raises(PromptError, match="bogus"):
        score_text.answer_of(tiny_backend, Prompt("To boil"), "bogus", "own", 4)


def test_reading_a_closed_trio_says_so(tiny_file) -> None:
    backend = open_backend(find_trio("tiny", tiny_file))
    read = score_text.score_text(backend, Prompt("To boil an egg " * 9))
    next(read)
    backend.close()
    with pytest.raises(WeightsError, match="closed"):
        next(read)
    with pytest.raises(WeightsError, match="closed"):
        next(backend.score(ScoreRequest(Prompt("x"))))


def test_reading_can_be_stopped_and_keeps_what_it_has(tiny_backend) -> None:
    run = Run()
    painted = events.read(fields("To boil an egg " * 9))(tiny_backend, run)
    next(painted)
    run.stopped.update(ROLES)
    *_, last = painted
    assert len(json.loads(last["lens"])["variants"][0]["next"]["p"]) > 0
    assert last["status"]["text"].startswith("Stopped")


def test_a_fork_goes_on_from_the_forced_token(tiny_backend) -> None:
    ids = [p.id for p in tiny_backend.encoders["base"].tokens("To boil an")]
    *_, last = run(
        events.fork(fields(), {"ids": ids, "id": 9, "instead": "x", "format": "same"}),
        tiny_backend,
    )
    begun = {role: [*ids, 9] for role in tiny_backend.encoders}
    stream = tiny_backend.stream(Request(Prompt(""), Sampling(6), "same", forced_prefix=begun))
    texts = {"base": "", "task": "", "instruct": ""}
    for event in stream:
        if hasattr(event, "text"):
            texts[event.role] += event.text
    assert {column["role"]: column["text"] for column in last["forks"]["columns"]} == texts
    assert last["forks"]["title"].endswith("instead of “x”")


@pytest.mark.parametrize(
    "fork",
    [
        None,
        {},
        {"ids": [5], "id": 4, "format": "both"},
        {"ids": 3, "id": 4},
        {"ids": ["<b>"], "id": 1},
        {"ids": [], "id": 10**9},
        {"ids": [-1], "id": 1},
        {"ids": [1]},
        {"ids": [5] * 10_000, "id": 1, "format": "same"},
    ],
)
def test_a_fork_from_nowhere_is_refused(tiny_backend, fork) -> None:
    with pytest.raises(PromptError):
        run(events.fork(fields(), fork), tiny_backend)


def likely(**p: float) -> TokenDistribution:
    return TokenDistribution(tuple(TopToken(ord(k), k, v, v) for k, v in p.items()), None, None)


def test_the_divergence_over_shown_tokens_is_a_lower_bound() -> None:
    p, q = likely(a=0.5, b=0.3, c=0.2), likely(a=0.2, b=0.2, c=0.6)
    whole = sum(a * math.log(a / b) for a, b in ((0.5, 0.2), (0.3, 0.2), (0.2, 0.6)))
    assert coarse_kl(p, q) == pytest.approx(whole)
    assert coarse_kl(p, p) == 0.0
    two = coarse_kl(likely(a=0.5, b=0.3), likely(a=0.2, c=0.6))
    assert two == pytest.approx(0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8))
    assert two < whole


def test_a_trio_beside_itself_is_not_rounded(tiny_backend) -> None:
    reports = compare_quantization(
        tiny_backend, tiny_backend, Prompt("Tell me a joke"), "same", Sampling(8)
    )
    for report in reports:
        assert (report.kl, report.same_top, report.parts_at) == (
            pytest.approx(0, abs=1e-6),
            1.0,
            None,
        )
        assert report.text == report.whole_text
    assert reports[0].tuning_kl is None
    assert reports[1].tuning_kl > 0


def test_weights_as_stored_have_nothing_to_be_compared_with(tiny_backend) -> None:
    if tiny_backend.trio.precision == "none":
        with pytest.raises(PromptError), unquantised(tiny_backend):
            pass


def test_the_command_prints_what_it_promises(monkeypatch, capsys) -> None:
    monkeypatch.setattr(
        "playground.cli.prompt_commands.opened", lambda trio: scripted()(trio, print)
    )
    assert main(["lens", "To boil an", "--json"]) == 0
    variant = json.loads(capsys.readouterr().out)["variants"]["base"]
    assert set(variant["next"][0]) >= {"text", "id", "p"}
    assert set(variant["losses"][0]) >= {"text", "id", "nats"}
    assert main(["lens", "To boil an", "--answer-of", "task"]) == 0
    assert "all others" in capsys.readouterr().out
    assert main(["lens", "To boil an", "--word", "egg", "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["cost"]["task"]["nats"] == 2.0
    )  # a space is a word of the script's
    assert main(["lens", "To boil an", "--word", "egg", "--position", "1"]) == 0
    assert "'egg' would cost base 2.00 nats" in capsys.readouterr().out
    assert main(["lens", "To boil an", "--position", "9"]) == 1
    assert main(["compare", "To boil an", "--begin", " egg", "--json"]) == 0
    capsys.readouterr()
    assert main(["lens", "", "--json"]) == 1
    assert main(["lens", "x", "--strength", "task=high"]) == 1
    assert "task=0.5" in capsys.readouterr().err


def open_lens(page) -> None:
    page.get_by_role("tab", name="Lens").click()
    page.wait_for_selector("#lens-run", state="visible")


def done(page) -> str:
    page.wait_for_function(
        "['done', 'error'].includes(document.querySelector('#lens-status .line')?.dataset.kind)",
        timeout=60_000,
    )
    return page.text_content("#lens-status .line")


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_tab_shows_texts_bars_sums_and_forks(serve, visit, width, theme) -> None:
    page = visit(serve(scripted()), width=width, theme=theme)
    open_lens(page)
    page.click("#lens-run")
    assert "4 tokens read" in done(page)
    assert page.text_content(".lens-text.base .lens-tokens") == "<bos>To boil an"
    assert page.locator(".lens-next .ledger-column.task .bar").count() == 10
    assert page.text_content(".lens-next .base .bar-figure") == "50 %"
    assert "all other tokens together" in page.text_content(".lens-next .base .mask-count")
    assert page.locator(".lens-sums tbody tr").count() == 3
    page.locator(".lens-next .base .bar").nth(2).click()
    page.wait_for_selector(".fork")
    assert "word3" in page.text_content(".fork header")
    page.wait_for_function("document.querySelector('.fork .task .mask-count').textContent")
    page.click(".fork header button")
    assert page.locator(".fork").count() == 0
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_a_token_that_is_chosen_while_another_is_gone_on_from_takes_its_place(serve, visit) -> None:
    page = visit(serve(scripted(delay_s=0.15)))
    open_lens(page)
    page.click("#lens-run")
    done(page)
    page.locator(".lens-next .base .bar").nth(1).click()
    page.wait_for_selector(".fork")
    page.locator(".lens-next .base .bar").nth(2).click()
    page.wait_for_function("document.querySelectorAll('.fork').length == 2")
    assert "word3" in page.locator(".fork header").first.text_content()


@pytest.mark.browser
def test_positions_are_reached_by_keys(serve, visit) -> None:
    page = visit(serve(scripted()))
    open_lens(page)
    page.click("#lens-run")
    done(page)
    page.focus(".lens-text.task .lens-tokens")
    page.keyboard.press("ArrowLeft")
    assert "To boil”" in page.text_content(".lens-after")
    assert page.get_attribute(".lens-text.task .lens-tokens", "aria-valuenow") == "2"
    assert "boil: 1.00 nats" in page.get_attribute(".lens-text.task .lens-tokens", "aria-valuetext")
    page.keyboard.press("Home")
    assert page.locator(".lens-text.base .chosen").text_content() == "<bos>"
    assert page.locator(".lens-next .base .bar").first.is_enabled()
    page.focus(".lens-modes [aria-checked=true]")
    page.keyboard.press("ArrowRight")
    assert "more probability than the base" in page.text_content(".lens .lens-explain")


@pytest.mark.browser
def test_what_is_no_text_is_said_in_the_tab(serve, visit) -> None:
    page = visit(serve(scripted()))
    open_lens(page)
    page.fill("#lens-text textarea", "")
    page.click("#lens-run")
    assert "The text is empty" in done(page)
    page.fill("#lens-text textarea", "<img src=x onerror=window.hacked=1> hello")
    page.click("#lens-run")
    page.wait_for_selector(".lens-text.base")
    assert "<img src=x" in page.text_content(".lens-text.base .lens-tokens")
    assert page.evaluate("window.hacked") is None


@pytest.mark.browser
def test_a_map_of_two_thousand_tokens_does_not_freeze_the_page(serve, visit) -> None:
    page = visit(serve(scripted()))
    open_lens(page)
    page.fill("#lens-text textarea", "word " * 2000)
    page.click("#lens-run")
    assert "2,002 tokens read" in done(page)
    page.wait_for_selector(".lens-text.base .lens-token[data-n='2001']")
    page.locator(".lens-text.base .lens-token").nth(1200).click()
    assert page.get_attribute(".lens-text.base .lens-tokens", "aria-valuenow") == "1200"


@pytest.mark.trio
@pytest.mark.browser
def test_the_real_trio_expects_an_egg(serve, visit, real) -> None:
    page = visit(serve(lambda trio, report: real))
    open_lens(page)
    page.click("#lens-run")
    done(page)
    assert page.text_content(".lens-next .base .bar-text").strip() == "egg"
    assert "“egg” would cost Base" in page.text_content(".lens-cost")
    page.locator(".lens-next .base .bar").filter(has_text="apple").click()
    page.wait_for_selector(".fork .instruct .mask-count:not(:empty)", timeout=60_000)
    assert "apple" in page.text_content(".fork header")
    page.get_by_text("Rounded, or tuned?").click()
    page.click("#rounding-run")
    page.wait_for_selector("#rounding tbody tr.instruct", timeout=240_000)
    assert page.locator("#rounding tbody tr").count() == 3
    page.get_by_role("button", name="Who would have said it?").click()
    page.wait_for_function("document.querySelector('.lens-of').textContent", timeout=60_000)
    assert "The answer of Instruction-tuned" in page.text_content(".lens-of")
    assert "would have parted" in page.text_content(".lens-text.task h4")


def test_a_reading_ends_with_its_deadline_and_keeps_what_it_has(tiny_backend, monkeypatch) -> None:
    run = Run()
    painted = events.read(fields("To boil an egg " * 9))(tiny_backend, run)
    next(painted)
    run.until_s = 0.0
    *_, last = painted
    assert len(json.loads(last["lens"])["variants"][0]["next"]["p"]) > 0
    assert last["status"]["text"] == "Its time is over; what was read is shown."


def test_texts_are_read_one_at_a_time_and_others_are_told_their_place(tiny_backend) -> None:
    readings = [read(tiny_backend, LensRequest("To boil an egg")) for _ in range(3)]
    assert next(readings[0]).step == "scoring"
    assert [next(reading).place for reading in readings[1:]] == [1, 2]
    readings[1].close()  # whoever leaves the line is not waited for
    assert next(readings[2]).place == 1
    readings[0].close()
    assert next(readings[2]).step == "scoring"
    for reading in readings:
        reading.close()
    assert READINGS.waiting == 0


def test_a_call_whose_text_is_not_read_in_time_says_so(fake, monkeypatch) -> None:
    monkeypatch.setattr(records, "DEADLINE_S", 0.0)
    loader = TrioLoader(fake.trio, lambda trio, report: fake)
    with pytest.raises(PromptError, match=r"not read within 0 seconds\. Send a shorter"):
        list(records.lens(loader, LensRequest("To boil an egg"), None))


def test_of_a_text_without_end_no_more_is_tokenised_than_can_be_read(tiny_backend, fake) -> None:
    text = "egg " * 500_000
    began = time.monotonic()
    kept, note = cut_to_context(tiny_backend, text)
    assert time.monotonic() - began < 1
    assert text.startswith(kept)
    assert note.startswith("2,000,000 characters are more than the context of")
    assert len(cut_to_context(fake, "x" * 2_000_000)[0]) == MAX_CHARACTERS
    for fields in ({"text": text, "format": "own"}, {"text": "To boil an", "word": text}):
        with pytest.raises(PromptError, match="2,000,000 characters, and at most 131,072"):
            LensRequest(**fields)


@pytest.mark.parametrize("name", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_which_a_reading_cannot_have_are_refused(name) -> None:
    with pytest.raises(PromptError, match="Penalties depend on what an answer has said"):
        LensRequest("To boil an", sampling=Sampling(**{name: 1.5}))


def test_a_reading_pauses_for_the_answers_of_others(tiny_backend, monkeypatch) -> None:
    monkeypatch.setattr("playground.lens.reading.PAUSE", 1e6)
    answering = True
    readings = read(
        tiny_backend, LensRequest("To boil an egg " * 9), lambda: True, lambda: answering
    )
    first = next(readings)
    assert [next(readings) for _ in range(4)] == [first] * 4
    answering = False
    *_, last = readings
    assert last.step == "done"
