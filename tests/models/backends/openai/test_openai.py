"""Variants that servers answer for: over real HTTP, from a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
import time
import zlib
from contextlib import closing
from itertools import count

import pytest
from endpoint import JOKE, KEY, event_line, events_by_role, says

from models import (
    ROLES,
    Layout,
    Prompt,
    PromptError,
    Request,
    Sampling,
    ScoreRequest,
    Stop,
    Token,
    TrioError,
    WeightsError,
    open_backend,
)
from models.backends.open import preview
from models.backends.openai.backend import OpenAIBackend
from playground.comparison.compare import compare
from playground.evaluation.config import Plan
from playground.evaluation.run import evaluate
from playground.evaluation.task import shipped_tasks
from playground.lens import score_text
from playground.training_data.explain import example_rows
from playground.ui import answer_view


def test_each_is_asked_in_its_own_format(far, server) -> None:
    by_role = events_by_role(far)
    assert {
        role: "".join(event.text for event in events) for role, events in by_role.items()
    } == dict.fromkeys(ROLES, "Why not?")
    assert {events[-1].reason for events in by_role.values()} == {"eos"}
    requests = {body["model"]: (path, body) for path, body, _ in server.requests}
    assert requests["base-model"][0] == "/v1/completions"
    assert requests["base-model"][1]["prompt"] == "Tell me a joke"
    assert requests["task-model"][1]["prompt"] == "Tell me a joke\n"
    path, body = requests["chat-model"]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Tell me a joke"}]
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (8, 0.0, True)
    unasked = {"top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
    assert unasked.isdisjoint(body)


def test_penalties_and_min_p_are_asked_of_all_where_they_are_set(far, server) -> None:
    asked = {"min_p": 0.1, "repetition_penalty": 1.2, "frequency_penalty": -0.5}
    list(far.stream(Request(Prompt("x"), Sampling(8, 0.7, presence_penalty=0.4, **asked))))
    assert len(server.requests) == 3
    for _, body, _ in server.requests:
        assert {name: body[name] for name in asked} == asked
        assert body["presence_penalty"] == 0.4


def test_an_answer_that_goes_round_is_ended_on_a_server_too(far, server) -> None:
    rounds = [" I am", " a", " girl.", "\n"] * 6
    server.say = says(*rounds, ended="length")
    prompt = Prompt("Tell me a joke")
    ended = list(far.stream(Request(prompt, Sampling(64), stop_loops=True)))
    assert {e.reason for e in ended if isinstance(e, Stop)} == {"loop"}
    assert sum(isinstance(e, Token) and e.role == "base" for e in ended) == 12
    whole = list(far.stream(Request(prompt, Sampling(64))))
    assert {e.reason for e in whole if isinstance(e, Stop)} == {"length"}


def test_the_same_bytes_go_to_all(far, server) -> None:
    events_by_role(far, format="same")
    assert {path for path, _, _ in server.requests} == {"/v1/completions"}
    assert {body["prompt"] for _, body, _ in server.requests} == {"Tell me a joke"}


def test_answers_end_as_they_do_here(far, server) -> None:
    server.say = says(" good\nRev", "iew: another", ended="length")
    by_role = events_by_role(far, Prompt("", "dull", layout=Layout("Review", "Mood")))
    assert "".join(event.text for event in by_role["base"]) == " good"
    assert by_role["base"][-1].reason == "stop"
    assert by_role["instruct"][-1].reason == "length"  # a chat variant has no stop text


def test_one_is_stopped_while_the_server_hangs(far, server) -> None:
    go_on = threading.Event()

    def hangs(path: str, body: dict):
        def lines():
            yield event_line("chat" in path, "Well")
            if body["model"] == "base-model":
                go_on.wait(20)
            yield event_line("chat" in path, "", "stop")

        return 200, lines()

    server.say = hangs
    events, began = far.stream(Request(Prompt("x"), Sampling(8))), time.monotonic()
    stops, event = {}, next(events)
    while len(stops) < 3:
        if isinstance(event, Stop):
            stops[event.role] = event.reason
        if len(stops) < 3:
            event = events.send(["base"] if len(stops) == 2 else None)
    assert stops == {"base": "cancelled", "task": "eos", "instruct": "eos"}
    assert time.monotonic() - began < 10
    events.close()
    late = [
        e
        for e in far.stream(Request(Prompt("x"), Sampling(8), deadline_s=0.5))
        if isinstance(e, Stop)
    ]
    assert {stop.role: stop.reason for stop in late}["base"] == "deadline"
    go_on.set()


@pytest.mark.parametrize(
    ("status", "lines", "says_so"),
    [
        (401, ['{"error": "no key"}'], "Set its key"),
        (404, ["no such route"], "model's name"),
        (500, ["<b>oh\n\nno</b>" * 90], "answered 500"),
        (200, ["data: {not json}\n\n"], "does not answer as it should"),
        (200, ['data: {"error": {"message": "too long"}}\n\n'], "too long"),
        (200, ["data: [1]\n\n"], "does not answer as it should"),
        (200, ['data: {"choices": ["x"]}\n\n'], "does not answer as it should"),
        (200, ['data: {"choices": [{"delta": "x", "finish_reason": null}]}\n\n'], '"delta": "x"'),
        (200, [], "without saying why"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(far, server, status, lines, says_so) -> None:
    server.say = lambda path, body: (status, lines)
    for events in events_by_role(far).values():
        (stop,) = events
        assert stop.reason == "error"
        assert says_so in stop.error
        assert "\n" not in stop.error
        assert len(stop.error) < 400


def test_a_stopped_column_closes_its_connection(far, server) -> None:
    def endless(path: str, body: dict):
        def lines():
            for _ in range(2000):
                yield event_line("chat" in path, "word ")
                time.sleep(0.005)

        return 200, lines()

    server.say = endless
    events = far.stream(Request(Prompt("x"), Sampling(8), roles=["base", "task"]))
    event = next(events)
    while not isinstance(event, Token) or event.role != "base":  # its server speaks
        event = next(events)
    while not isinstance(event, Stop):
        event = events.send(["base"])
    for _ in range(200):  # the other goes on
        assert getattr(next(events), "role", "task") == "task"
        if server.gone.is_set():
            break
    assert server.gone.is_set()
    events.close()


def test_nobody_at_home_is_said(trio_of) -> None:
    table = 'name = "b"\nendpoint = "http://127.0.0.1:9/v1"\nmodel = "m"'
    with closing(open_backend(trio_of(base=table))) as backend:
        assert "127.0.0.1:9/v1 cannot be reached" in events_by_role(backend)["base"][-1].error


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c", "🙂"])
def test_a_sign_that_some_take_for_the_end_of_a_line_is_text(far, server, sign) -> None:
    data = json.dumps(
        {"choices": [{"text": f"a{sign}b", "finish_reason": "stop"}]}, ensure_ascii=False
    )
    server.say = lambda path, body: (200, [f"data: {data}\r\n\r\n", "data: [DONE]\n"])
    events = events_by_role(far, roles=("base",))["base"]
    assert events[0].text == f"a{sign}b"
    assert (events[-1].reason, events[-1].error) == ("eos", None)


def test_scoring_that_is_closed_leaves_nothing_to_wait_for(far, server) -> None:
    arrived = threading.Event()

    def hangs(path, body):
        arrived.set()
        time.sleep(30)
        return 200, []

    server.say = hangs
    before = [thread for thread in threading.enumerate() if not thread.daemon]
    scores = far.score(ScoreRequest(JOKE))
    assert next(scores) == {}
    assert arrived.wait(10)
    scores.close()
    assert [thread for thread in threading.enumerate() if not thread.daemon] == before


def test_a_key_comes_from_the_environment_and_is_never_told(trio_of, server, monkeypatch) -> None:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    trio = trio_of(base=f'name = "b"\nendpoint = "{url}"\nmodel = "m"\nkey = "A_KEY"')
    monkeypatch.delenv("A_KEY", raising=False)
    with pytest.raises(WeightsError, match="A_KEY"):
        open_backend(trio)
    monkeypatch.setenv("A_KEY", "sk-half\nline")
    with pytest.raises(WeightsError, match="printable"):
        open_backend(trio)
    monkeypatch.setenv("A_KEY", f" {KEY}\n")
    server.say = lambda path, body: (401, ["no"])
    with closing(open_backend(trio)) as backend:
        by_role = events_by_role(backend)
        texts = [by_role["base"][-1].error, str(backend.model_info()), repr(trio)]
    assert ("/v1/completions", f"Bearer {KEY}") in [(path, key) for path, _, key in server.requests]
    assert [key for _, body, key in server.requests if body["model"] != "m"] == [None, None]
    assert not any(KEY in text for text in texts)
    assert texts[0].endswith("answered 401: no. The key in A_KEY was refused.")


@pytest.mark.parametrize(
    ("table", "says_so"),
    [
        ('endpoint = "http://h/v1"\nmodel = "m"\nbase = "a/b"', "one of the two"),
        ('endpoint = "http://h/v1"', "'model' is missing"),
        ('endpoint = "ftp://h"\nmodel = "m"', "http://host:8000/v1"),
        ('endpoint = "http://host:port/v1"\nmodel = "m"', "http://host:8000/v1"),
        ('endpoint = "http://me:pw@h/v1"\nmodel = "m"', "no user"),
        ('endpoint = " http://h/v1 "\nmodel = "m"', "no space"),
        ('endpoint = "http://h/v1/chat/completions/?a=b"\nmodel = "m"', "at its end"),
        ('endpoint = "http://h/v1/completions"\nmodel = "m"', "at its end"),
        ('endpoint = "http://h/v1"\nmodel = "m"\nkey = "sk-123"', "name of an environment"),
        ('base = "a/b"\nmodel = "m"', "there is none"),
    ],
)
def test_a_mistaken_endpoint_is_named(trio_of, table, says_so) -> None:
    with pytest.raises(TrioError, match=says_so):
        trio_of(base=f'name = "b"\n{table}')


def test_it_tells_what_it_does_not_know(far) -> None:
    assert far.model_info()["base"].fingerprint == ""
    assert far.memory().base_bytes == 0
    assert far.encoders == {}
    for call in (
        lambda: next(far.score(ScoreRequest(Prompt("x"), strengths={"base": 0.5}))),
        lambda: score_text.cost(far, Prompt("x"), "own", "y"),
        lambda: next(far.stream(Request(Prompt("x"), Sampling(1), forced_prefix={"base": [1]}))),
        lambda: next(far.stream(Request(Prompt("x"), Sampling(1), strengths={"base": 0.5}))),
        lambda: score_text.answer_of(far, Prompt("x"), "base", "own", 4),
        lambda: score_text.forced_prefix_ids(far, Prompt("x"), "own", "Well"),
        lambda: far.encode(Prompt("half \ud83d")),
    ):
        with pytest.raises(PromptError):
            call()
    assert "base and task and instruct" in score_text.endpoints_note(far)
    with pytest.raises(PromptError, match=r"Nobody tells what a text costs: .* cannot be asked"):
        list(score_text.score_text(far, Prompt("x")))  # this server knows streams alone
    assert example_rows(far) == {}


def test_what_is_shown_needs_no_tokens(far) -> None:
    answers = compare(far, "Tell me a joke", max_new_tokens=8)
    shown = answer_view.panes(answers, answer_view.packed_prompts(answers))
    assert shown["base"]["text"] == "Why not?"
    assert shown["base"]["same"] == ""  # unknown weights are not equal weights
    assert json.loads(shown["base"]["sent"])["text"] == "Tell me a joke"
    assert preview(far.trio, Prompt("Tell me a joke"))["task"].text == "Tell me a joke\n"


def test_items_are_asked_at_once_and_no_label_is_ranked(far, server) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def slow(path: str, body: dict):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        return says("positive")(path, body)

    server.say = slow
    plan = Plan((shipped_tasks()["sentiment"],), ("instruction",), limit=8, max_new_tokens=4)
    *_, state = evaluate(far, plan)
    scorings = {result.scoring for result in state.results()}
    assert "generation" in scorings
    assert not scorings & {"likelihood", "calibrated"}
    assert most >= 6
    assert state.differences()


def test_a_remote_backend_holds_no_weights(trio_of) -> None:
    assert isinstance(open_backend(trio_of()), OpenAIBackend)


@pytest.mark.parametrize("status", [200, 400])
def test_a_compressed_reply_is_not_unpacked(server, far, status) -> None:
    bomb = zlib.compressobj(wbits=31)
    block = bomb.compress(bytes(1 << 26)) + bomb.flush()  # 64 MB in 64 kB
    server.say = lambda path, body: (status, [block], ("Content-Encoding", "gzip"))
    (stop,) = events_by_role(far)["base"]
    assert stop.error.endswith("compresses its answer (gzip), which is not read.")
    *_, scores = far.score(ScoreRequest(JOKE))
    assert all("compresses its answer" in score.reason for score in scores.values())


def test_a_drip_of_comments_lets_thread_and_socket_go(server, far) -> None:
    def drip(path: str, body: dict):
        def comments():
            while True:
                time.sleep(0.02)
                yield ": still here\n\n"

        return 200, comments()

    server.say = drip
    (stop,) = events_by_role(far, deadline_s=0.3, roles=["base"])["base"]
    assert stop.reason == "deadline"
    assert server.gone.wait(5)  # the connection is closed


def test_a_refusal_without_end_is_read_for_a_few_kb(server, far) -> None:
    sent = count()

    def refuse(path: str, body: dict):
        return 500, (f"No room. {'x' * 4096}" for _ in sent)

    server.say = refuse
    (stop,) = events_by_role(far, roles=["base"])["base"]
    assert "answered 500: No room." in stop.error
    assert server.gone.wait(5)  # the connection is closed
    assert next(sent) * 4096 < 8 << 20  # what is in the buffers of two sockets
