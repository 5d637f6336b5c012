"""What servers tell of log-probabilities, as far as each kind of server tells it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing

import pytest
from endpoint import events_by_role, one_choice, says, tells

from models import (
    ROLES,
    Note,
    Prompt,
    PromptError,
    ScoreRequest,
    Unavailable,
    open_backend,
)
from playground.lens import score_text
from playground.lens.token_scores import available, lens_record, loss_summary, token_differences
from playground.ui.tabs.lens import view


def test_servers_that_tell_log_probabilities_take_part_in_the_lens(far, server) -> None:
    server.say = tells(echoes=True)
    *_, readings = score_text.score_text(far, Prompt("To boil an"), format="own", top=10)
    base, chat = readings["base"], readings["instruct"]
    assert [piece.text for piece in base.pieces] == ["<bos>", "To", " boil", " an"]
    assert base.losses == (None, 0.5, 0.5, 0.5)
    assert base.distributions[-1].top[0].text == " next"
    assert loss_summary(base).mean_loss == 0.5
    assert [token.text for token in chat.distributions[0].top] == ["Why"]
    assert loss_summary(chat) is None
    missing = score_text.missing_scores(far, readings)
    assert "instruct is a server: it tells what comes next alone." in missing
    record = lens_record(readings, position=2)
    assert record["variants"]["base"]["next"][0]["text"] == " an"
    assert record["variants"]["instruct"]["after"] == 0
    with pytest.raises(PromptError, match="no token 9"):
        lens_record(readings, position=9)
    assert token_differences(readings["task"], base) == [None] * len(readings["task"].pieces)


def test_a_server_without_echo_tells_what_comes_next(far, server) -> None:
    server.say = tells(echoes=False, chats=False)
    *_, readings = score_text.score_text(far, Prompt("To boil an"), format="own", top=10)
    assert list(available(readings)) == ["base", "task"]
    assert [piece.text for piece in readings["base"].pieces] == ["To boil an"]
    assert readings["base"].distributions[0].top[0].text == " next"
    missing = score_text.missing_scores(far, readings)
    assert "Left out: instruct: its server tells no log-probabilities." in missing


def test_a_server_that_tells_few_is_asked_for_few(far, server) -> None:
    def few(path: str, body: dict):
        most = body.get("top_logprobs", body.get("logprobs"))
        return (400, ["at most 5"]) if most > 5 else tells(echoes=True)(path, body)

    server.say = few
    *_, readings = score_text.score_text(far, Prompt("To boil an"), format="own", top=10)
    assert list(readings) == list(ROLES)
    assert len(readings["base"].pieces) == 4


def test_a_character_in_parts_is_no_echo(far, server) -> None:
    def say(path: str, body: dict):
        if body.get("echo"):  # the duck in two tokens, neither of them text
            tops = [None, {"FIRST": -0.1}, {"SECOND": -0.1}, {"NEXT": -0.1}]
            tokens, loss = ["Hi ", "bytes:\\xf0", "bytes:\\x9f", "NEXT"], [None, -1.0, -1.0, -1.0]
        else:
            tops, tokens, loss = [{"NEXT": -0.1}], ["NEXT"], [-0.1]
        logprobs = {"tokens": tokens, "token_logprobs": loss, "top_logprobs": tops}
        return 200, [json.dumps({"choices": [{"logprobs": logprobs}]})]

    server.say = say
    *_, readings = score_text.score_text(far, Prompt("Hi 🦆"), format="same", top=5)
    assert [token.text for token in readings["base"].distributions[0].top] == ["NEXT"]


def test_a_server_that_hangs_is_not_waited_for(far, server) -> None:
    go_on = threading.Event()

    def hangs(path: str, body: dict):
        go_on.wait(20)
        return 200, ["{}"]

    server.say = hangs
    began = time.monotonic()
    readings = score_text.score_text(far, Prompt("x"), format="own")
    assert next(readings) == {}
    readings.close()
    assert time.monotonic() - began < 5
    go_on.set()


def test_an_answer_is_read_by_servers_that_echo(trio_of, tiny_file, server) -> None:
    server.say = tells(echoes=True)
    here = f'name = "i"\nbase = "{tiny_file.parent}/base"\nreads = "text"'
    with closing(open_backend(trio_of(instruct=here))) as backend:
        prompt = Prompt("To boil")
        answer = backend.encoders["instruct"].tokens(" an egg")
        *_, readings = score_text.score_text(backend, prompt, format="same", answer=answer)
        base = readings["base"]
        assert list(readings) == list(ROLES)
        assert "".join(piece.text for piece in base.pieces[base.prompt_tokens :]) == " an egg"
        assert loss_summary(base, answer=True).tokens == 2
        shown = view.lens(readings, "instruct", None, "")
        assert [len(variant["tokens"]["text"]) for variant in shown["variants"]] == [
            len(reading.pieces) for reading in readings.values()
        ]
        server.shutdown()
        server.server_close()
        *_, readings = score_text.score_text(backend, prompt, format="same", answer=answer)
        assert list(available(readings)) == ["instruct"]  # what is read here stands


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
        list(score_text.score_text(far, Prompt("x"), format="own", top=10))
    assert "\n" not in str(caught.value)
    assert "Error(" not in str(caught.value)


def scored(backend) -> list[object]:
    *_, scores = backend.score(ScoreRequest(Prompt("To boil an"), "own", top=5))
    return list(scores.values())


def test_what_the_lens_is_refused_changes_no_answer(far, server) -> None:
    words = "echo and logprobs with max_tokens, stream or temperature are not supported"

    def say(path: str, body: dict):
        return (400, [words]) if "logprobs" in body else says("Hi")(path, body)

    server.say = say
    assert all(isinstance(score, Unavailable) for score in scored(far))
    for role, events in events_by_role(far).items():
        assert not any(isinstance(event, Note) for event in events), role
    *_, (_, body, _) = server.requests
    assert {"temperature", "max_tokens", "stream"} <= set(body)


def test_what_the_lens_learned_holds_for_the_lens_alone(far, server) -> None:
    def say(path: str, body: dict):
        if "logprobs" in body and "temperature" in body:
            return 400, ["temperature is not supported with logprobs"]
        return tells(echoes=True)(path, body) if "logprobs" in body else says("Hi")(path, body)

    server.say = say
    for requests in (6, 3):  # it is not asked twice for what it refused
        server.requests.clear()
        assert not any(isinstance(score, Unavailable) for score in scored(far))
        assert len(server.requests) == requests
    assert not any(isinstance(event, Note) for event in events_by_role(far)["base"])
    assert all("temperature" in body for _, body, _ in server.requests[-3:])
