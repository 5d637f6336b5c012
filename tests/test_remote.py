"""Variants that servers answer for: over real HTTP, from a server that speaks OpenAI's protocol."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models import (
    ROLES,
    Layout,
    ModelError,
    Prompt,
    PromptError,
    Queued,
    Request,
    Sampling,
    Stop,
    Token,
    TrioError,
    WeightsError,
    find_trio,
    open_backend,
)
from models.merged import merged
from models.open import preview
from models.remote import RemoteBackend
from models.together import Together
from playground import lens, reading
from playground.compare import compare
from playground.evaluate import evaluate
from playground.plan import Plan
from playground.tasks import shipped_tasks
from playground.training import one_passage
from playground.ui import lens_view, views

KEY = "sk-a-secret-that-nobody-sees"


class Speaks(BaseHTTPRequestHandler):
    """Answers as its server's `say` tells it to, and keeps what it was asked."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        status, lines = self.server.say(self.path, body)
        self.send_response(status)
        self.end_headers()
        try:
            for line in lines:
                self.wfile.write(line.encode())
                self.wfile.flush()
        except OSError:
            self.server.gone.set()

    def log_message(self, *parts) -> None:
        """Stay quiet."""


def event(chat: bool, text: str, ended: str | None = None) -> str:
    said = {"delta": {"content": text}} if chat else {"text": text}
    return f"data: {json.dumps({'choices': [{**said, 'finish_reason': ended}]})}\n\n"


def says(*texts: str, ended: str = "stop"):
    def say(path: str, body: dict):
        chat = "chat" in path
        return 200, [
            *(event(chat, one) for one in texts),
            event(chat, "", ended),
            "data: [DONE]\n\n",
        ]

    return say


@pytest.fixture
def server():
    one = ThreadingHTTPServer(("127.0.0.1", 0), Speaks)
    one.daemon_threads, one.asked, one.gone = True, [], threading.Event()
    one.say = says("Why", " not", "?")
    threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def trio_of(server, tmp_path):
    """Write a trio of endpoints on the server; some of its variants may be other TOML."""

    def made(**tables: str):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        own = {
            "base": f'name = "b"\nendpoint = "{url}"\nmodel = "base-model"',
            "task": f'name = "t"\nendpoint = "{url}/"\nmodel = "task-model"\nends_with = "\\n"',
            "instruct": f'name = "i"\nendpoint = "{url}"\nmodel = "chat-model"\nreads = "chat"',
        }
        text = "".join(f"[trio.far.{role}]\n{table}\n" for role, table in {**own, **tables}.items())
        path = tmp_path / "far.toml"
        head = '[trio.far]\ntitle = "Far"\nprecision = "none"\nmax_context = 128\n'
        path.write_text(head + text)
        return find_trio("far", path)

    return made


@pytest.fixture
def far(trio_of):
    with closing(open_backend(trio_of())) as backend:
        yield backend


JOKE = Prompt("Tell me a joke")


def said_by(backend, prompt=JOKE, **settings):
    stream = backend.stream(Request(prompt, Sampling(8), **settings))
    events = [one for one in stream if not isinstance(one, Queued)]
    return {role: [one for one in events if one.role == role] for role in ROLES}


def test_each_is_asked_in_its_own_format(far, server) -> None:
    said = said_by(far)
    assert {
        role: "".join(one.text for one in some) for role, some in said.items()
    } == dict.fromkeys(ROLES, "Why not?")
    assert {some[-1].reason for some in said.values()} == {"eos"}
    asked = {body["model"]: (path, body) for path, body, _ in server.asked}
    assert asked["base-model"][0] == "/v1/completions"
    assert asked["base-model"][1]["prompt"] == "Tell me a joke"
    assert asked["task-model"][1]["prompt"] == "Tell me a joke\n"
    path, body = asked["chat-model"]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "Tell me a joke"}]
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (8, 0.0, True)
    assert "top_k" not in body


def test_the_same_bytes_go_to_all(far, server) -> None:
    said_by(far, format="same")
    assert {path for path, _, _ in server.asked} == {"/v1/completions"}
    assert {body["prompt"] for _, body, _ in server.asked} == {"Tell me a joke"}


def test_answers_end_as_they_do_here(far, server) -> None:
    server.say = says(" good\nRev", "iew: another", ended="length")
    said = said_by(far, Prompt("", "dull", layout=Layout("Review", "Mood")))
    assert "".join(one.text for one in said["base"]) == " good"
    assert said["base"][-1].reason == "stop"
    assert said["instruct"][-1].reason == "length"  # a chat variant has no stop text


def test_one_is_stopped_while_the_server_hangs(far, server) -> None:
    go_on = threading.Event()

    def hangs(path: str, body: dict):
        def lines():
            yield event("chat" in path, "Well")
            if body["model"] == "base-model":
                go_on.wait(20)
            yield event("chat" in path, "", "stop")

        return 200, lines()

    server.say = hangs
    events, began = far.stream(Request(Prompt("x"), Sampling(8))), time.monotonic()
    stops, told = {}, next(events)
    while len(stops) < 3:
        if isinstance(told, Stop):
            stops[told.role] = told.reason
        if len(stops) < 3:
            told = events.send(["base"] if len(stops) == 2 else None)
    assert stops == {"base": "cancelled", "task": "eos", "instruct": "eos"}
    assert time.monotonic() - began < 10
    events.close()
    late = [
        e
        for e in far.stream(Request(Prompt("x"), Sampling(8), deadline_s=0.5))
        if isinstance(e, Stop)
    ]
    assert {one.role: one.reason for one in late}["base"] == "deadline"
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
        (200, ['data: {"choices": [{"delta": "x", "finish_reason": null}]}\n\n'], "without saying"),
        (200, [], "without saying why"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(far, server, status, lines, says_so) -> None:
    server.say = lambda path, body: (status, lines)
    for some in said_by(far).values():
        (stop,) = some
        assert stop.reason == "error"
        assert says_so in stop.error
        assert "\n" not in stop.error
        assert len(stop.error) < 400


def test_a_stopped_column_closes_its_connection(far, server) -> None:
    def endless(path: str, body: dict):
        def lines():
            for _ in range(2000):
                yield event("chat" in path, "word ")
                time.sleep(0.005)

        return 200, lines()

    server.say = endless
    events = far.stream(Request(Prompt("x"), Sampling(8), roles=["base", "task"]))
    told = next(events)
    while not isinstance(told, Stop):
        told = events.send(["base"])
    for _ in range(200):  # the other goes on
        assert getattr(next(events), "role", "task") == "task"
        if server.gone.is_set():
            break
    assert server.gone.is_set()
    events.close()


def test_nobody_at_home_is_said(trio_of) -> None:
    table = 'name = "b"\nendpoint = "http://127.0.0.1:9/v1"\nmodel = "m"'
    with closing(open_backend(trio_of(base=table))) as backend:
        assert "127.0.0.1:9/v1 cannot be reached" in said_by(backend)["base"][-1].error


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c", "🙂"])
def test_a_sign_that_some_take_for_the_end_of_a_line_is_text(far, server, sign) -> None:
    data = json.dumps(
        {"choices": [{"text": f"a{sign}b", "finish_reason": "stop"}]}, ensure_ascii=False
    )
    server.say = lambda path, body: (200, [f"data: {data}\r\n\r\n", "data: [DONE]\n"])
    said = said_by(far, roles=("base",))["base"]
    assert said[0].text == f"a{sign}b"
    assert (said[-1].reason, said[-1].error) == ("eos", None)


def test_who_no_longer_wants_to_be_told_leaves_nothing_to_wait_for(far, server) -> None:
    asked = threading.Event()

    def hangs(path, body):
        asked.set()
        time.sleep(30)
        return 200, []

    server.say = hangs
    before = [one for one in threading.enumerate() if not one.daemon]
    told = far.told(JOKE)
    assert next(told) == {}
    assert asked.wait(10)
    told.close()
    assert [one for one in threading.enumerate() if not one.daemon] == before


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
        said = said_by(backend)
        told = [said["base"][-1].error, str(backend.loaded()), repr(trio)]
    assert ("/v1/completions", f"Bearer {KEY}") in [(path, key) for path, _, key in server.asked]
    assert [key for _, body, key in server.asked if body["model"] != "m"] == [None, None]
    assert not any(KEY in one for one in told)


@pytest.mark.parametrize(
    ("table", "says_so"),
    [
        ('endpoint = "http://h/v1"\nmodel = "m"\nbase = "a/b"', "one of the two"),
        ('endpoint = "http://h/v1"', "'model' is missing"),
        ('endpoint = "ftp://h"\nmodel = "m"', "http://host:8000/v1"),
        ('endpoint = "http://host:port/v1"\nmodel = "m"', "http://host:8000/v1"),
        ('endpoint = "http://me:pw@h/v1"\nmodel = "m"', "no user"),
        ('endpoint = "http://h/v1"\nmodel = "m"\nkey = "sk-123"', "name of an environment"),
        ('base = "a/b"\nmodel = "m"', "there is none"),
    ],
)
def test_a_mistaken_endpoint_is_named(trio_of, table, says_so) -> None:
    with pytest.raises(TrioError, match=says_so):
        trio_of(base=f'name = "b"\n{table}')


def test_it_tells_what_it_does_not_know(far) -> None:
    assert far.loaded()["base"].fingerprint == ""
    assert far.memory().base_bytes == 0
    assert far.tokens("x") == far.pieces([1]) == far.completion(Prompt("x"), "y") == {}
    for asked in (
        lambda: next(far.read({"base": [1]})),
        lambda: reading.cost(far, Prompt("x"), "own", "y"),
        lambda: next(far.stream(Request(Prompt("x"), Sampling(1), begun=[1]))),
        lambda: next(far.stream(Request(Prompt("x"), Sampling(1), strengths={"base": 0.5}))),
        lambda: reading.answer_of(far, Prompt("x"), "base", "own", 4),
        lambda: reading.beginning(far, Prompt("x"), "own", "Well"),
        lambda: far.sent(Prompt("half \ud83d")),
    ):
        with pytest.raises(PromptError):
            asked()
    assert "base and task and instruct" in reading.left_out(far)
    with pytest.raises(PromptError, match=r"Nobody tells what a text costs: .* cannot be asked"):
        list(reading.read(far, Prompt("x")))  # this server knows streams alone
    assert one_passage(far) == {}


def older(prompt: str, echo: bool) -> dict:
    """Log-probabilities as vLLM tells them: of a prompt's words, and of the one that follows."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(prompt.split(" "))]
    tops = [{one: -0.5, " other": -2.0} for one in [*words, " next"]]
    nats = [-0.5] * len(tops)
    whole = {
        "tokens": ["<bos>", *words, " next"],
        "token_logprobs": [None, *nats],
        "top_logprobs": [None, *tops],
    }
    return whole if echo else {name: some[-1:] for name, some in whole.items()}


def tells(echoes: bool, chats: bool = True):
    """A server that tells log-probabilities; some do not echo, some refuse on chat routes."""

    def say(path: str, body: dict):
        if "chat" in path:
            top = {"top_logprobs": [{"token": "Why", "logprob": -0.25, "bytes": None}]}
            logprobs = {"content": [{"token": "Why", "logprob": -0.25, **top}]} if chats else None
        elif body.get("echo") and not echoes:
            return 400, ['{"error": "Only no echo is supported"}']
        else:
            logprobs = older(body["prompt"], bool(body.get("echo")))
        return 200, [json.dumps({"choices": [{"text": "", "logprobs": logprobs}]})]

    return say


def test_servers_that_tell_log_probabilities_take_part_in_the_lens(far, server) -> None:
    server.say = tells(echoes=True)
    *_, readings = reading.read(far, Prompt("To boil an"), format="own", likeliest=10)
    base, chat = readings["base"], readings["instruct"]
    assert [piece.text for piece in base.pieces] == ["<bos>", "To", " boil", " an"]
    assert base.losses == (None, 0.5, 0.5, 0.5)
    assert base.after[-1].likeliest[0].text == " next"
    assert base.sums().nats_per_token == 0.5
    assert [one.text for one in chat.after[0].likeliest] == ["Why"]
    assert chat.sums() is None
    told = reading.untold(far, readings, {})
    assert "instruct is a server: it tells what comes next alone." in told
    record = lens.record(readings, position=2)
    assert record["variants"]["base"]["next"][0]["text"] == " an"
    assert record["variants"]["instruct"]["after"] == 0
    with pytest.raises(PromptError, match="no token 9"):
        lens.record(readings, position=9)
    assert lens.differences(readings["task"], base) == [None] * len(readings["task"].pieces)


def test_a_server_without_echo_tells_what_comes_next(far, server) -> None:
    server.say = tells(echoes=False, chats=False)
    why: dict = {}
    *_, readings = reading.read(far, Prompt("To boil an"), format="own", likeliest=10, why=why)
    assert list(readings) == ["base", "task"]
    assert [piece.text for piece in readings["base"].pieces] == ["To boil an"]
    assert readings["base"].after[0].likeliest[0].text == " next"
    told = reading.untold(far, readings, why)
    assert "Left out: instruct: its server tells no log-probabilities." in told


def test_a_server_that_tells_few_is_asked_for_few(far, server) -> None:
    def few(path: str, body: dict):
        most = body.get("top_logprobs", body.get("logprobs"))
        return (400, ["at most 5"]) if most > 5 else tells(echoes=True)(path, body)

    server.say = few
    *_, readings = reading.read(far, Prompt("To boil an"), format="own", likeliest=10)
    assert list(readings) == list(ROLES)
    assert len(readings["base"].pieces) == 4


def test_a_character_in_parts_is_no_echo(far, server) -> None:
    def say(path: str, body: dict):
        if body.get("echo"):  # the duck in two tokens, neither of them text
            tops = [None, {"FIRST": -0.1}, {"SECOND": -0.1}, {"NEXT": -0.1}]
            tokens, nats = ["Hi ", "bytes:\\xf0", "bytes:\\x9f", "NEXT"], [None, -1.0, -1.0, -1.0]
        else:
            tops, tokens, nats = [{"NEXT": -0.1}], ["NEXT"], [-0.1]
        logprobs = {"tokens": tokens, "token_logprobs": nats, "top_logprobs": tops}
        return 200, [json.dumps({"choices": [{"logprobs": logprobs}]})]

    server.say = say
    *_, readings = reading.read(far, Prompt("Hi 🦆"), format="same", likeliest=5)
    assert [one.text for one in readings["base"].after[0].likeliest] == ["NEXT"]


def test_a_server_that_hangs_is_not_waited_for(far, server) -> None:
    go_on = threading.Event()

    def hangs(path: str, body: dict):
        go_on.wait(20)
        return 200, ["{}"]

    server.say = hangs
    began = time.monotonic()
    asked = reading.read(far, Prompt("x"), format="own")
    assert next(asked) == {}
    asked.close()
    assert time.monotonic() - began < 5
    go_on.set()


def test_an_answer_is_read_by_servers_that_echo(trio_of, tiny_file, server) -> None:
    server.say = tells(echoes=True)
    here = f'name = "i"\nbase = "{tiny_file.parent}/base"\nreads = "text"'
    with closing(open_backend(trio_of(instruct=here))) as backend:
        prompt = Prompt("To boil")
        answer = backend.tokens(" an egg")["instruct"]
        *_, readings = reading.read(backend, prompt, format="same", answer=answer)
        base = readings["base"]
        assert list(readings) == list(ROLES)
        assert "".join(one.text for one in base.pieces[base.prompt_tokens :]) == " an egg"
        assert base.sums(answer=True).tokens == 2
        shown = lens_view.lens(readings, "instruct", None, "")
        assert [len(one["tokens"]) for one in shown["variants"]] == [
            len(one.pieces) for one in readings.values()
        ]
        server.shutdown()
        server.server_close()
        *_, readings = reading.read(backend, prompt, format="same", answer=answer)
        assert list(readings) == ["instruct"]  # what is read here stands


def one_choice(**logprobs) -> dict:
    return {"choices": [{"logprobs": logprobs}]}


@pytest.mark.parametrize(
    "reply",
    [[], {}, {"choices": []}, {"choices": [1]}, one_choice(tokens=[1, 2], token_logprobs=["x"]),
     one_choice(content=[{"top_logprobs": [{"token": "a", "logprob": 1000.0}]}]),
     one_choice(content=[{"top_logprobs": [{"token": "a", "logprob": float("-inf")}]}]),
     one_choice(content=[{"top_logprobs": [{"token": "\ud83d", "logprob": -1.0}]}]),
     one_choice(content=None), one_choice(content=[])],
)  # fmt: skip
def test_odd_log_probabilities_are_one_line(far, server, reply) -> None:
    server.say = lambda path, body: (200, [json.dumps(reply)])
    with pytest.raises(PromptError, match="log-probabilities") as caught:
        list(reading.read(far, Prompt("x"), format="own", likeliest=10))
    assert "\n" not in str(caught.value)


def test_what_is_shown_needs_no_tokens(far) -> None:
    answers = compare(far, "Tell me a joke", max_new_tokens=8)
    shown = views.panes(answers)
    assert shown["base"]["text"] == "Why not?"
    assert shown["base"]["same"] == ""  # unknown weights are not equal weights
    assert shown["base"]["sent"]["text"] == "Tell me a joke"
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
    scorings = {one.scoring for one in state.results()}
    assert "generation" in scorings
    assert not scorings & {"likelihood", "calibrated"}
    assert most >= 6
    assert state.differences()


def test_here_and_there_answer_side_by_side(trio_of, tiny_file, server) -> None:
    folder = tiny_file.parent
    here = f'name = "b"\nbase = "{folder}/base"'
    trio = trio_of(base=here, task=f'{here}\nadapter = "{folder}/task"')
    with closing(open_backend(trio)) as backend:
        assert isinstance(backend, Together)
        said = said_by(backend)
        assert "".join(one.text for one in said["instruct"]) == "Why not?"
        assert len([one for one in said["base"] if isinstance(one, Token)]) == 8
        assert list(backend.sent(Prompt("x"))) == list(ROLES)
        assert [one.fingerprint != "" for one in backend.loaded().values()] == [True, True, False]
        *_, readings = reading.read(backend, Prompt("To boil an egg"))
        assert list(readings) == ["base", "task"]
        events = backend.stream(Request(Prompt("x"), Sampling(60)))
        next(events)
        events.close()
        scaled = backend.loaded({"task": 0.0})
        assert scaled["task"].fingerprint == scaled["base"].fingerprint


def test_merged_streams_close_each_other() -> None:
    closed = []

    def counts(name: str, until: int):
        try:
            for n in range(until):
                told = yield n
                if told:
                    return
        finally:
            closed.append(name)

    assert sorted(merged({"a": counts("a", 2), "b": counts("b", 1)})) == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
    ]
    both = merged({"a": counts("a", 10**9), "b": counts("b", 10**9)})
    next(both)
    both.send([("a", "stop")])
    both.close()
    assert sorted(closed) == ["a", "a", "b", "b"]

    def fails():
        yield 1
        raise ModelError("no")

    with pytest.raises(ModelError):
        list(merged({"a": fails(), "b": counts("b", 10**9)}))


def test_a_remote_backend_holds_no_weights(trio_of) -> None:
    assert isinstance(open_backend(trio_of()), RemoteBackend)
