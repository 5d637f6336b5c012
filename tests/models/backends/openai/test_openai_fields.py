"""Request fields that servers take by other names, or refuse; and addresses with a query."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from endpoint import events_by_role, says, tells

from models import Note, Prompt, Sampling, TrioError, open_backend
from playground.evaluation.config import Plan
from playground.evaluation.run import evaluate, evaluation_record
from playground.evaluation.task import shipped_tasks
from playground.lens import score_text
from playground.lens.token_scores import available

GOOD = says("Hello")


def table(server, rest: str, path: str = "/v1") -> str:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return f'name = "i"\nendpoint = "{url}"\nmodel = "m"\nreads = "chat"\n{rest}'


def refusing(*steps: tuple[str, str]):
    """A server that refuses the first of these fields that a request has."""

    def say(path: str, body: dict):
        for field, words in steps:
            if field in body:
                return 400, [words]
        return GOOD(path, body)

    return say


def asked(backend, server):
    """Return text, notes and Stop of the instruct variant, and the bodies that were sent."""
    server.requests.clear()
    *events, stop = events_by_role(backend, roles=("instruct",))["instruct"]
    notes = [event.text for event in events if isinstance(event, Note)]
    text = "".join(event.text for event in events if not isinstance(event, Note)) + stop.text
    return text, notes, stop, [body for _, body, _ in server.requests]


def test_the_trio_file_renames_fields_and_leaves_them_out(trio_of, server) -> None:
    request = 'request = { max_tokens = "max_completion_tokens", seed = false, stream = false }'
    server.say = GOOD
    with closing(open_backend(trio_of(instruct=table(server, request)))) as backend:
        text, notes, _, (body,) = asked(backend, server)
        assert (text, notes) == ("Hello", [])
        assert set(body) == {
            "model", "messages", "max_completion_tokens", "temperature", "top_p"
        }  # fmt: skip
        assert body["max_completion_tokens"] == 8
        model = backend.model_info()["instruct"].model
        assert model.endswith("max_completion_tokens for max_tokens, no seed, no stream")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("seed", '{"error": {"message": "Unknown field: seed"}}'),
        ("seed", '{"error": "json: unknown field \\"seed\\""}'),
        ("seed", '{"error": {"message": "Not supported.", "param": "seed"}}'),
        ("top_p", "Unrecognized request argument supplied: top_p"),
        ("stream", '{"error": {"message": "`stream` is not available here"}}'),
        ("temperature", '{"error": {"message": "\'temperature\' does not support 0.0 with this '
         'model. Only the default (1) value is supported."}}'),
        ("seed", json.dumps({"object": "error", "message": {"detail": [
            {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}})),
        ("seed", "Unknown field: seed. Allowed fields: model, messages, max_tokens, temperature."),
        ("seed", "Allowed: model, messages, max_tokens, temperature. Got unexpected: seed"),
        ("seed", "create() got an unexpected keyword argument 'seed'"),
        ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
        ("seed", "Additional properties are not allowed ('seed' was unexpected)"),
        ("top_p", "This server does not accept the parameter top_p."),
        ("temperature", "`temperature` is deprecated for this model."),
        ("temperature", "temperature must not be set for this model"),
        ("temperature", "temperature must be unset for models other than this one"),
    ],
)  # fmt: skip
def test_a_refused_field_is_left_out_and_that_is_said(far, server, field, words) -> None:
    server.say = refusing((field, words))
    text, notes, stop, bodies = asked(far, server)
    assert (text, stop.error) == ("Hello", None)
    assert [field in body for body in bodies] == [True, False]
    assert set(bodies[0]) - set(bodies[1]) == {field}
    (note,) = notes
    assert f"refuses {field} (“" in note
    assert f"asked again without {field}: the server's own setting applies. To" in note
    assert f"request = {{ {field} = false }}" in note
    text, again, _, bodies = asked(far, server)  # it is not asked twice for what it refused
    assert (text, again, len(bodies)) == ("Hello", notes, 1)


def test_a_limit_under_another_name_is_kept(far, server) -> None:
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.say = refusing(("max_tokens", words), ("temperature", "temperature is not supported"))
    text, notes, _, bodies = asked(far, server)
    assert text == "Hello"
    assert bodies[-1]["max_completion_tokens"] == 8
    assert "temperature" not in bodies[-1]
    assert 'request = { max_tokens = "max_completion_tokens" }' in notes[0]
    assert len(notes) == len(bodies) - 1 == 2


def test_of_two_fields_that_exclude_each_other_one_is_left_out(far, server) -> None:
    words = "`temperature` and `top_p` cannot both be specified for this model."

    def say(path: str, body: dict):
        return (400, [words]) if {"temperature", "top_p"} <= set(body) else GOOD(path, body)

    server.say = say
    _, notes, _, bodies = asked(far, server)
    assert "temperature" in bodies[-1]
    assert "top_p" not in bodies[-1]
    assert "refuses top_p" in notes[0]


@pytest.mark.parametrize(
    "words",
    [
        "temperature must be between 0 and 2",
        "max_tokens is too large: 4096",
        "This model's maximum context length is 1024 tokens. Reduce max_tokens.",
        "no such model",
        "Invalid value for temperature: 0.0",
        "Unexpected value for temperature: 0.0",
        "'temperature' cannot be 0",
        "temperature cannot be set to 0",
        "Unknown model: temperature-model",
        "temperature (0.0) is not positive",
        "temperature 0.0 is not allowed",
        "temperature = 0 is not supported",
        "temperature is not allowed to be 0",
        "temperature has to be a strictly positive float, got 0.0",
        "Expected temperature > 0",
        "Invalid temperature",
        "invalid type: float for field top_p, expected integer",
        '{"error": {"message": "0.0 is not strictly positive", "param": "temperature"}}',
        "max_tokens (24) is over the limit of 8",
        "max_tokens larger than 8 is not supported",
        "prompt tokens + max_tokens (24) is more than the context window",
        "Field seed: integer out of bounds",
        '{"detail": [{"loc": ["body", "messages"], "msg": "required", "input": {"seed": 0}}]}',
    ],
)
def test_a_refused_value_is_an_error_and_not_asked_without(far, server, words) -> None:
    server.say = lambda path, body: (400, [words])
    _, notes, stop, bodies = asked(far, server)
    assert len(bodies) == 1
    assert notes == []
    assert "answered 400" in stop.error


def test_an_evaluation_says_what_was_refused_once(far, server) -> None:
    server.say = refusing(("seed", "unknown field seed"))
    *_, state = evaluate(far, Plan((shipped_tasks()["sentiment"],), ("instruction",), limit=2))
    assert [note.partition(" ")[0] for note in state.notes] == ["base:", "task:", "instruct:"]
    assert all("refuses seed" in note for note in state.notes)
    assert evaluation_record({}, state)["notes"] == list(state.notes)


def test_a_server_that_refuses_everything_is_told(far, server) -> None:
    def say(path: str, body: dict):
        fields = [field for field in body if field not in ("model", "messages")]
        return 400, [f"unknown field {fields[0]}" if fields else "no"]

    server.say = say
    _, notes, stop, bodies = asked(far, server)
    assert len(bodies) == 7  # five fields, max_completion_tokens, and none
    assert notes == []  # none of it helped
    assert stop.error.endswith("answered 400: no")


def test_log_probabilities_are_asked_with_the_fields_of_the_server(far, server) -> None:
    def say(path: str, body: dict):
        if "max_tokens" in body:
            return 400, ["max_tokens is not supported. Use max_completion_tokens."]
        return tells(echoes=True)(path, body)

    server.say = say
    *_, readings = score_text.score_text(far, Prompt("To boil an"), format="own", top=5)
    assert len(available(readings)) == 3


def test_log_probabilities_say_the_servers_error(far, server) -> None:
    server.say = lambda path, body: (200, ['{"error": {"message": "out of memory"}}'])
    with pytest.raises(Exception, match="reports an error: out of memory"):
        list(score_text.score_text(far, Prompt("x")))
    server.say = lambda path, body: (200, ["<html><title>Sign in</title>"])
    with pytest.raises(Exception, match="sent a web page, not an answer: “Sign in”"):
        list(score_text.score_text(far, Prompt("x")))


def test_the_query_of_an_address_is_kept_and_not_shown(trio_of, server) -> None:
    own = table(server, "", "/openai/v1/?api-version=2024-10-21&code=x/")
    with closing(open_backend(trio_of(instruct=own))) as backend:
        assert asked(backend, server)[0] == "Why not?"
        path, _, _ = server.requests[0]
        assert path == "/openai/v1/chat/completions?api-version=2024-10-21&code=x/"
        assert "code" not in str(backend.model_info()["instruct"])
        words = json.dumps({"error": f"no {path}".replace("&", " and ")})
        for status, *header in ((403,), (308, ("Location", "/v2" + path)), (200,)):
            server.say = lambda path, _, reply=(status, [words], *header): reply
            stop = asked(backend, server)[2]
            assert "answered" in stop.error or "reports" in stop.error
            assert "code=" not in stop.error


@pytest.mark.parametrize(
    ("rest", "says_so"),
    [
        ("request = 1", "'request' must be a table, not 1"),
        ('request = { sead = "x" }', r"instruct\.request: unknown key 'sead'"),
        ("request = { seed = true }", r"seed is True; it must be another name, or false"),
        ('request = { seed = "" }', "seed is ''; it must be another name, or false"),
        ('request = { seed = "top_k" }', "two fields would be sent as 'top_k'"),
        ('request = { max_tokens = "model" }', "two fields would be sent as 'model'"),
        ('request = { seed = "n", top_k = "n" }', "two fields would be sent as 'n'"),
    ],
)
def test_a_mistake_in_the_table_is_named(trio_of, server, rest, says_so) -> None:
    with pytest.raises(TrioError, match=says_so):
        trio_of(instruct=table(server, rest))


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://h/v1#part"])
def test_an_address_that_is_none_is_named(trio_of, url) -> None:
    with pytest.raises(TrioError, match="it must be like http://host:8000/v1"):
        trio_of(base=f'name = "b"\nendpoint = "{url}"\nmodel = "m"')


def test_a_base_has_no_request_fields(trio_of) -> None:
    with pytest.raises(TrioError, match="'request' is of an endpoint"):
        trio_of(base='name = "b"\nbase = "a/b"\nrequest = { seed = false }')


def test_a_name_may_be_taken_by_another_field_that_is_renamed(trio_of, server) -> None:
    request = 'request = { seed = "top_k", top_k = false }'
    with closing(open_backend(trio_of(instruct=table(server, request)))) as backend:
        *_, (body,) = asked(backend, server)
    assert body["top_k"] == Sampling().seed


@pytest.mark.parametrize(
    ("refusal", "then"),
    [
        ("Unknown seed phrase in your account", (400, ["Unknown seed phrase in your account"])),
        ("unknown field seed", (200, ['data: {"error": "out of memory"}\n\n'])),
    ],
)
def test_a_field_whose_absence_did_not_help_is_sent_the_next_time(
    far, server, refusal, then
) -> None:
    server.say = lambda path, body: (400, [refusal]) if "seed" in body else then
    _, notes, stop, bodies = asked(far, server)
    assert ["seed" in body for body in bodies] == [True, False]
    assert stop.error
    assert notes == []  # the advice would not help either
    server.say = GOOD
    text, notes, _, (body,) = asked(far, server)
    assert (text, notes) == ("Hello", [])
    assert "seed" in body
