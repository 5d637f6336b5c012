"""The command line asks a page that is running, instead of loading the trio again."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from scripted import SCRIPT

from models import WeightsError, find_trio
from models.backends.fake import FakeBackend
from playground.cli import prompt_commands
from playground.cli.main import main
from playground.cli.page_client import running_page


@pytest.fixture
def page(serve, monkeypatch) -> str:
    def loads(trio):
        raise WeightsError("The trio is loaded a second time.")

    monkeypatch.setattr(prompt_commands, "opened", loads)
    return serve(lambda trio, on_progress: FakeBackend(find_trio(), SCRIPT))


def test_a_page_answers_as_a_record_and_in_blocks(page, capsys) -> None:
    prompt = ["compare", "small talk", "--example", "hi => greeting", "--at", page]
    assert main([*prompt, "--max-new-tokens", "5", "--seed", "3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["form"] == "few-shot"
    assert record["prompt"]["demonstrations"] == [{"input": "hi", "output": "greeting"}]
    assert record["sampling"] == {
        "max_new_tokens": 5, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 3,
    }  # fmt: skip
    assert record["stop_loops"] is False
    assert [answer["new_tokens"] for answer in record["answers"].values()] == [5, 5, 5]
    assert main([*prompt, "--max-new-tokens", "5"]) == 0
    printed = capsys.readouterr().out
    heads = [line.split(" · ")[0] for line in printed.splitlines() if line.startswith("──")]
    assert heads == ["── base", "── task", "── instruct"]
    assert record["answers"]["base"]["text"].strip() in printed


def test_an_instruction_with_an_input_stays_one(page, capsys) -> None:
    arguments = ["compare", "an input", "--instruction", "Do it", "--at", f"{page}/", "--json"]
    assert main([*arguments, "--strength", "task=0.5"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["prompt"]["instruction"] == "Do it"
    assert record["prompt"]["input"] == "an input"
    assert main(["compare", "just that", "--at", page, "--json"]) == 0
    prompt = json.loads(capsys.readouterr().out)["prompt"]
    assert (prompt["instruction"], prompt["input"]) == ("just that", "")


def test_a_page_is_asked_with_all_settings(page, capsys) -> None:
    settings = {"min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 0.3}
    settings |= {"frequency_penalty": -0.4, "top_p": 0.9, "top_k": 7, "temperature": 0.5, "seed": 2}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert main(["compare", "x", *flags, "--stop-loops", "--at", page, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["sampling"] == {"max_new_tokens": 64, **settings}
    assert record["stop_loops"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--begin", "Yes"], "--begin cannot be asked of a page"),
        (["--cue", "A"], "--cue cannot be asked of a page"),
        (["--no-stop-texts"], "--no-stop-texts cannot be asked of a page"),
        (["--trio", "nope"], "There is no trio"),
        (["--strength", "base=0.5"], "--strength base cannot be asked of a page"),
        (["--max-new-tokens", "600"], "at most 512"),
    ],
)
def test_what_a_page_cannot_do_is_one_line(page, capsys, arguments, says) -> None:
    form = ["--form", "zero-shot"] if "--cue" in arguments else []
    assert main(["compare", "x", "--at", page, *form, *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err
    assert printed.err.count("\n") == 1


def answering(reply: bytes) -> str:
    """Serve one connection that gets these bytes; return its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_what_is_no_page_is_said_in_one_line(reply, capsys) -> None:
    assert main(["compare", "x", "--at", answering(reply)]) == 1
    printed = capsys.readouterr()
    assert "does not answer as a page of Triptych does" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("event: complete\ndata: []\n\n", "broke off its answer"),
        ("event: complete\ndata: [null]\n\n", "does not answer as a page"),
        ('event: complete\ndata: [{"answers": {"base": {}}}]\n\n', "it lacks 'text'"),
        ('event: complete\ndata: [{"answers": 5}]\n\n', "does not answer as a page"),
        ("event: error\ndata: null\n\n", "refused, without saying why"),
        ("event: generating\ndata: {\n\n", "does not answer as a page"),
    ],
)
def test_a_page_of_another_version_is_one_line(events, says, capsys) -> None:
    def reply(body: str) -> bytes:
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        return (head + body).encode()

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            for body in ('{"event_id": "1"}', events):
                with listener.accept()[0] as connection:
                    connection.recv(65_536)
                    connection.sendall(reply(body))

    threading.Thread(target=serve, daemon=True).start()
    assert main(["compare", "x", "--at", f"http://127.0.0.1:{listener.getsockname()[1]}"]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://127.0.0.1:1", "nonsense", "http://["])
def test_an_address_that_is_none_is_said_in_one_line(url, capsys) -> None:
    assert main(["compare", "x", "--at", url]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_page_on_the_usual_port_is_found_and_anything_else_is_not(page, monkeypatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", page.rsplit(":", 1)[1].strip("/"))
    assert running_page() == page.rstrip("/")
    for reply in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]"):
        monkeypatch.setenv("GRADIO_SERVER_PORT", answering(reply).rsplit(":", 1)[1])
        assert running_page() is None
    monkeypatch.setenv("GRADIO_SERVER_PORT", "1")
    assert running_page() is None
