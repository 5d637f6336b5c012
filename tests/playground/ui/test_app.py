"""The served app: its API, and the real trio in a real browser."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from scripted import SCRIPT

from models import PromptError
from models.backends.fake import FakeBackend
from playground.comparison.trio_loader import TrioLoader
from playground.ui.components import to_outputs
from playground.ui.fields import demonstrations
from playground.ui.server.visitors import Visitors
from playground.ui.session import Session
from playground.ui.tabs.compare.events import CompareFields, compare

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def client(serve_once):
    opened = Client(
        serve_once(lambda trio, report: FakeBackend(trio, SCRIPT, 0.002)), verbose=False
    )
    yield opened
    opened.close()


def test_the_api_returns_the_object_that_the_command_line_prints(client) -> None:
    result = client.predict("Tell me a joke", max_new_tokens=4, api_name="/compare")
    assert list(result) == [
        "trio",
        "form",
        "format",
        "stop_texts",
        "stop_loops",
        "prompt",
        "sampling",
        "answers",
    ]
    assert result["answers"]["task"]["text"] == "small talk / tell"
    assert result["answers"]["task"]["stopped"] == "length"


def test_the_grid_and_the_lens_can_be_called(client) -> None:
    cells = client.predict("Tell me a joke", max_new_tokens=4, api_name="/grid")["cells"]
    assert cells["few-shot"]["task"]["text"] == "small talk / tell"
    record = client.predict("To boil an", position=1, api_name="/lens")
    variant = record["variants"]["base"]
    assert (variant["after"], len(variant["next"]), len(variant["losses"])) == (1, 10, 4)
    scaled = client.predict("Tell me a joke", task_strength=0.5, api_name="/compare")
    assert scaled["answers"]["task"]["weights"]["strength"] == 0.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"text": ""}, "The text is empty"),
        ({"text": 5}, "The text is 5; it must be text"),
        ({"text": ["x"], "format": "own"}, r"The text is \['x'\]; it must be text"),
        ({"text": "x", "answer_of": ["task"]}, r"\['task'\] is no variant"),
        ({"text": "x", "max_new_tokens": "4"}, "max_new_tokens is '4'"),
        ({"text": "x", "position": 9}, "no token 9"),
        ({"text": "x", "position": "first"}, "must be a whole number"),
        ({"text": "x", "format": "bogus"}, "no format 'bogus'"),
        ({"text": "x", "answer_of": "bogus"}, "'bogus' is no variant"),
        ({"text": "x", "temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_the_lens_says_what_is_wrong_with_a_call(client, call, says) -> None:
    with pytest.raises(AppError, match=says):
        client.predict(**call, api_name="/lens")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"text": ""}, "The instruction is empty"),
        ({"text": "x", "temperature": -1.0}, "temperature is -1.0"),
        ({"text": "x", "max_new_tokens": 10**9}, "max_new_tokens is 1000000000"),
        ({"text": "x", "max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"text": "x" * 20_001}, "20,001 characters"),
        ({"text": "x", "examples": ["a"]}, "not of the form"),
        ({"text": "x", "examples": [1]}, "must be text"),
        ({"text": "x", "examples": "a => b"}, "examples is one text; it must be a list"),
        ({"text": "x", "examples": 5}, "examples is 5; it must be a list"),
        ({"text": "x", "examples": {}}, "it must be a list of 'input => output'"),
        ({"text": "x", "examples": {"a => b": 1}}, "it must be a list of 'input => output'"),
        ({"text": 5}, "must be text"),
        ({"text": "x", "format": "bogus"}, "no format 'bogus'"),
        ({"text": "x", "form": "few-shot"}, "at least one demonstration"),
    ],
)
def test_bad_input_through_the_api_is_one_line(client, call, says) -> None:
    with pytest.raises(AppError, match=says):
        client.predict(**call, api_name="/compare")


@pytest.mark.parametrize("endpoint", ["/compare", "/grid", "/lens"])
def test_a_trio_that_is_no_name_is_one_line(client, endpoint) -> None:
    for trio, shown in [("nope", "'nope'"), (0, "0"), ({}, "{}"), ([], r"\[\]"), (False, "False")]:
        with pytest.raises(AppError, match=f"There is no trio {shown} here"):
            client.predict("x", trio=trio, api_name=endpoint)


def test_the_grid_says_what_is_wrong_with_its_examples(client) -> None:
    for examples in (5, 0, {}, "a => b"):
        with pytest.raises(AppError, match="it must be a list of 'input => output'"):
            client.predict("x", examples=examples, api_name="/grid")


def test_ten_callers_at_once_each_get_their_own_answer(client) -> None:
    def ask(number: int) -> dict:
        return client.predict(f"joke {number}", max_new_tokens=number, api_name="/compare")

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(1, 11)))
    for number, answer in enumerate(answers, 1):
        assert answer["prompt"]["instruction"] == f"joke {number}"
        assert answer["answers"]["base"]["new_tokens"] == number


def test_a_caller_who_goes_away_stops_the_work(serve) -> None:
    made = []

    def opener(trio, report):
        made.append(FakeBackend(trio, {**SCRIPT, "base": [" a"] * 2000}, 0.01))
        return made[0]

    url = serve(opener)
    session = {"session_hash": "gone", "fn_index": 0}
    request = {
        "data": ["x", "instruction", "", [], "own", 512, 0, 1, 0, 0, 1, 1, "", 0, 1, 0, 0, False],
        **session,
    }
    httpx.post(f"{url}gradio_api/queue/join", json=request).raise_for_status()
    with httpx.stream("GET", f"{url}gradio_api/queue/data?session_hash=gone") as stream:
        for _ in zip(range(4), stream.iter_lines(), strict=False):
            pass
        assert made[0].open_requests == 1
    end = time.monotonic() + 10
    while made[0].open_requests and time.monotonic() < end:
        time.sleep(0.05)
    assert made[0].open_requests == 0


@pytest.mark.parametrize("table", [None, "abc", [["a"]], [1, 2], [None], [["a", None]]])
def test_a_table_that_is_none_is_refused(table) -> None:
    with pytest.raises(PromptError, match="must be two texts"):
        demonstrations(table)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": None}, "temperature is None"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 1e9}, "max_new_tokens is 1000000000"),
        ({"max_new_tokens": None}, "Most new tokens is empty"),
        ({"form": "few-shot", "input": "x", "shots": None}, "Shots is empty"),
        ({"seed": None}, "Seed is empty; it must be a whole number."),
        ({"top_k": 1.5}, "Top-k holds 1.5; it must be a whole number."),
        ({"instruction": "\n" * 9}, "The instruction is empty"),
        ({"form": "few-shot", "input": "x"}, "at least one demonstration"),
    ],
)
def test_what_the_page_cannot_send_is_one_line_and_runs_nothing(fake, setting, says) -> None:
    good = {"form": "instruction", "instruction": "x", "input": "", "input_label": "Input"}
    good |= {"cue": "Output", "table": [["", ""]], "shots": 8, "format": "own", "seed": 0}
    good |= {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "stop_texts": True}
    session = Session(TrioLoader(fake.trio, lambda trio, report: fake), Visitors(gr.Blocks()))
    painted = list(session.run("someone", lambda: compare(CompareFields(**{**good, **setting}))))
    assert [list(update) for update in painted] == [["status"]]  # the panes keep what they show
    assert painted[0]["status"]["kind"] == "error"
    assert says in painted[0]["status"]["text"]
    assert fake.open_requests == 0
    assert "base" in list(session.run("someone", lambda: compare(CompareFields(**good))))[-1]


def test_a_run_that_a_later_one_replaces_paints_nothing_last(fake) -> None:
    good = CompareFields(
        "instruction", "x", "", "Input", "Output", [], 8, "own", 8, 0.0, 1.0, 0, 0, True
    )
    session = Session(TrioLoader(fake.trio, lambda trio, report: fake), Visitors(gr.Blocks()))
    parts = {name: name for name in ("base", "task", "instruct", "status")}
    first = to_outputs(session.run("someone", lambda: compare(good)), parts)
    assert "base" in next(update for update in first if "base" in update)
    later = to_outputs(session.run("someone", lambda: compare(good)), parts)
    assert "base" in next(update for update in later if "base" in update)
    assert [*first] == [gr.skip()]
    *_, last, nothing = later
    assert "base" in last
    assert nothing == gr.skip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_reachable(url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def test_an_unknown_trio_is_one_line() -> None:
    app = start("--trio", "nope")
    output, _ = app.communicate(timeout=60)
    assert app.returncode == 1
    assert output.startswith("There is no trio 'nope'")
    assert output.count("\n") == 1


def test_a_missing_trio_file_is_one_line(tmp_path) -> None:
    app = start("--trios", str(tmp_path / "none.toml"))
    output, _ = app.communicate(timeout=60)
    assert app.returncode == 1
    assert output.startswith("There is no trio file ")
    assert output.count("\n") == 1


def test_a_port_in_use_is_one_line(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "file").write_text("")  # a cache that cannot be: no time goes into loading
        app = start("--port", str(port), TRIPTYCH_CACHE=str(tmp_path / "file" / "x"))
        output, _ = app.communicate(timeout=120)
    assert app.returncode == 1
    line = next(line for line in output.splitlines() if "cannot be served" in line)
    assert f"http://127.0.0.1:{port}" in line
    assert "--port" in line
    assert "Traceback" not in output


@pytest.mark.browser
@pytest.mark.trio
def test_three_real_models_answer_in_a_real_browser(browser) -> None:
    port = free_port()
    with start(GRADIO_SERVER_PORT=str(port)) as app:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_reachable(url, 60)
            page = browser.new_page()
            page.goto(url)
            page.wait_for_selector("#compare")
            page.fill("#instruction textarea", "What is the capital of France?")
            page.click("#compare")
            page.wait_for_selector("#status .line[data-kind=done]", timeout=240_000)
            answers = {
                role: page.text_content(f"#column-{role} .pane-text")
                for role in ("base", "task", "instruct")
            }
            assert re.fullmatch(r"travel / [a-z ]+", answers["task"])
            assert "Paris" in answers["base"]
            assert answers["instruct"].strip(". ") == "Paris"
            assert page.get_attribute("#column-instruct .pane", "data-state") == "eos"
            prints = page.locator(".pane-weights dd:last-child").all_text_contents()
            assert len(set(prints)) == 3
            page.close()
        finally:
            app.terminate()
