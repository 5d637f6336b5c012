"""Replies as servers send them: each is answered, or told in the server's own words."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from endpoint import JOKE, events_by_role
from page import serious, wait_done

from models import Note, Reasoning, Request, Sampling, Token
from playground.cli.answer_blocks import show_answers
from playground.comparison.badges import badge
from playground.comparison.compare import begin, finish, follow
from playground.ui import answer_view

DONE = "data: [DONE]\n\n"


def chunk(ended: str | None = None, index: int = 0, **delta) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": ended}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n"


def whole(content="Hello there.", ended="stop", **message) -> str:
    choice = {"message": {"content": content, **message}, "finish_reason": ended}
    return json.dumps({"object": "chat.completion", "choices": [{"index": 0, **choice}]})


HELLO = chunk(role="assistant", content="") + chunk(content="Hello") + chunk(content=" there.")
END = chunk("stop")


@dataclass
class Said:
    text: str
    reasoning: str
    notes: str
    reason: str
    error: str


def ask(backend) -> Said:
    *events, stop = events_by_role(backend, roles=("instruct",))["instruct"]
    return Said(
        "".join(event.text for event in events if isinstance(event, Token)) + stop.text,
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        " ".join(event.text for event in events if isinstance(event, Note)),
        stop.reason,
        stop.error or "",
    )


def reply(server, *lines: str | bytes, status: int = 200) -> None:
    server.say = lambda path, body: (status, lines)


@pytest.mark.parametrize(
    "body",
    [
        HELLO + END + DONE,
        HELLO + END,
        HELLO.replace("null", '""') + END + DONE,
        (HELLO + END + DONE).replace("data: ", "data:"),
        (HELLO + END + DONE).replace("\n", "\r\n"),
        (HELLO + END + DONE).replace("\n", "\r"),
        (HELLO + END + DONE).replace("\n\n", "\n"),
        "\ufeff" + HELLO + END + DONE,
        ": ping\n\n: PROCESSING\n\n" + HELLO + ": ping\n\nevent: ping\ndata: {}\n\n" + END + DONE,
        "id: 1\nretry: 3000\nevent: message\n" + HELLO + END + DONE,
        "data:\n\n" + HELLO + "data: \n\n" + END + DONE,
        HELLO + END + 'data: {"choices": [], "usage": {"total_tokens": 5}}\n\n' + DONE,
        'data: {"choices": [], "prompt_filter_results": []}\n\n' + HELLO + END + DONE,
        'data: {"choices": null}\n\n' + HELLO + END + DONE,
        'data: {"usage": {}, "error": null}\n\n' + HELLO + END + DONE,
        'data: {"choices":[{"delta":\ndata: {"content":"Hello there."},\ndata: "finish_reason":'
        '"stop"}]}\n\n' + DONE,
        chunk(content=[{"type": "text", "text": "Hello"}]) + chunk(content=" there.") + END,
        chunk(content=["Hello", {"type": "text", "text": {"value": " there."}}]) + END,
        chunk(content="Hello") + chunk("stop", content=" there.") + DONE,
        chunk(content="Hello") + END + chunk(content=" there.") + DONE,
        chunk("eos_token", content="Hello there.") + DONE,
        chunk("STOP", content="Hello there.") + DONE,
        f"data: {whole()}\n\n" + DONE,
        HELLO + f"data: {whole()}\n\n" + DONE,
        chunk(role="assistant") + f"data: {whole()}\n\n" + DONE,
        chunk(role="assistant", content="") + f"data: {whole()}\n\n" + DONE,
        f"data: {whole('Hello', None)}\n\n" + chunk(content=" there.") + END,
        whole(),
        json.dumps(json.loads(whole()), indent=2),
        whole([{"type": "text", "text": "Hello there."}]),
        HELLO + END + "OK\n",
        HELLO + END + 'data: "[DONE]"\n\n',
        HELLO + END + "data: [done]\n\n",
        HELLO + END + 'data: {"usage": {}, "message": "done"}\n\n',
    ],
)
def test_an_answer_is_the_same_however_it_is_wrapped(far, server, body) -> None:
    reply(server, body)
    assert ask(far) == Said("Hello there.", "", "", "eos", "")


@pytest.mark.parametrize(
    ("body", "text", "reason", "note"),
    [
        (HELLO + DONE, "Hello there.", "unknown", "Its server gave no finish reason."),
        (whole(ended=None), "Hello there.", "unknown", "Its server gave no finish reason."),
        (HELLO + chunk("sensitive"), "Hello there.", "unknown", "finish reason “sensitive”"),
        (HELLO + chunk("length") + DONE, "Hello there.", "length", ""),
        (HELLO + chunk("MAX_TOKENS") + DONE, "Hello there.", "length", ""),
        (HELLO + chunk("content_filter") + DONE, "Hello there.", "content_filter", ""),
        (chunk(refusal="I cannot.") + END + DONE, "I cannot.", "refusal", ""),
        (whole(None, refusal="I cannot."), "I cannot.", "refusal", ""),
        (whole([{"type": "refusal", "refusal": "I cannot."}]), "I cannot.", "refusal", ""),
        (chunk(content="") + chunk("length") + DONE, "", "length", "a higher one may do"),
        (HELLO + chunk(content="B", index=1) + END, "Hello there.", "eos", "the first is shown"),
        (json.dumps({"choices": [{"message": {"content": x}} for x in "AB"]}),
         "A", "unknown", "the first is shown"),
        ('data: {"choices": [{"delta": {"content": "A"}}, {"delta": {"content": "B"}}]}\n\n' + END,
         "A", "eos", "the first is shown"),
        (HELLO + 'data: "[DONE]"\n\n', "Hello there.", "unknown", "no finish reason"),
        (whole(ended={"type": "odd"}), "Hello there.", "unknown", '“{"type": "odd"}”'),
        (whole([{"type": "image_url"}, "Hello"]), "Hello", "eos", "sent image_url, which is not"),
        (chunk(audio={"data": "UklG"}) + END + DONE, "", "eos", "sent audio, which is not shown"),
        (chunk(content="a\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
         + END, "a\ufffd", "eos", ""),
    ],
)  # fmt: skip
def test_an_end_is_told_as_the_server_tells_it(far, server, body, text, reason, note) -> None:
    reply(server, body)
    said = ask(far)
    assert (said.text, said.reason, said.error) == (text, reason, "")
    assert note in said.notes
    assert bool(said.notes) == bool(note)


@pytest.mark.parametrize("ended", ["tool_calls", "stop", "function_call"])
def test_a_tool_call_is_told_with_its_arguments(far, server, ended) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": part}} for part in ('{"city":', ' "Bern"}')]
    reply(
        server,
        chunk(content=None, tool_calls=[call]),
        *(chunk(tool_calls=[part]) for part in more),
        chunk(ended),
        DONE,
    )
    said = ask(far)
    assert (said.text, said.reason) == ("", "tool_calls")
    assert said.notes == 'Its server called a tool: weather{"city": "Bern"}.'


TIME = {"name": "time", "arguments": '{"zone": 1}'}
AREA = {"name": "area", "arguments": "{}"}


@pytest.mark.parametrize(
    "body",
    [
        whole(None, "tool_calls", tool_calls=[{"function": TIME}, {"function": AREA}]),
        whole(None, "tool_calls", tool_calls=[{"index": 0, "id": "a", "function": TIME},
                                              {"index": 0, "id": "b", "function": AREA}]),
        *(chunk(tool_calls=[{"index": 0, "function": {**TIME, "arguments": '{"zone":'}}])
          + chunk(tool_calls=[{"index": 0, "function": {**again, "arguments": " 1}"}}])
          + chunk(tool_calls=[{"index": 1, "function": AREA}]) + chunk("tool_calls")
          for again in ({}, {"name": "time"})),
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {**TIME, "arguments": '{"zone":'}}])
        + chunk(tool_calls=[{"index": 1, "id": "b", "function": AREA}])
        + chunk(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]) + chunk("tool_calls"),
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {**TIME, "arguments": '{"zone":'}}])
        + chunk(tool_calls=[{"index": 0, "id": None, "function": {**TIME, "arguments": " 1}"}}])
        + chunk(tool_calls=[{"index": 1, "id": "b", "function": AREA}]) + chunk("tool_calls"),
        chunk(tool_calls=[{"id": "a", "function": {"name": "time"}}])
        + chunk(tool_calls=[{"function": {"arguments": '{"zone": 1}'}}])
        + chunk(tool_calls=[{"id": "b", "function": {"name": "area"}}])
        + chunk(tool_calls=[{"function": {"arguments": "{}"}}]) + chunk("tool_calls"),
        whole(None, "tool_calls", tool_calls=[{"function": {**TIME, "arguments": {"zone": 1}}},
                                              {"function": {**AREA, "arguments": {}}}]),
    ],
)  # fmt: skip
def test_calls_of_two_tools_are_told_apart(far, server, body) -> None:
    reply(server, body)
    assert ask(far).notes == 'Its server called a tool: time{"zone": 1}, area{}.'


THOUGHT = [{"type": "thinking", "thinking": [{"type": "text", "text": "Think."}]}]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "Think."},
        {"reasoning": "Think."},
        {"reasoning": "Think.", "reasoning_content": "Think."},
        {"reasoning": "Think.", "reasoning_details": [{"type": "reasoning.encrypted"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Think."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Think."}]},
        {"content": THOUGHT},
        {"content": [{"type": "reasoning", "text": "Think."}]},
    ],
)
def test_reasoning_is_kept_apart(far, server, delta) -> None:
    reply(server, chunk(**delta) + HELLO + END + DONE)
    assert ask(far) == Said("Hello there.", "Think.", "", "eos", "")
    reply(server, whole(**{"content": "Hello there.", **delta}))
    assert ask(far).reasoning == "Think."


def test_reasoning_without_an_answer_says_why_it_is_blank(far, server) -> None:
    reply(server, chunk(reasoning="Think.") + END + DONE)
    assert ask(far).notes == "Its server sent reasoning alone, and no answer."
    reply(server, chunk(reasoning="Think.") + chunk("length") + DONE)
    assert "The limit of new tokens came before the answer" in ask(far).notes


def test_reasoning_that_cannot_be_read_says_why_the_answer_is_blank(far, server) -> None:
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    reply(server, whole(None, reasoning_details=details))
    assert ask(far).notes == "Its server sent reasoning.encrypted, which is not shown."


def test_messages_that_hold_the_whole_text_so_far_are_not_doubled(far, server) -> None:
    texts = ("Hello", "Hello th", "Hello there.", "Hello there.", "")
    said = [json.loads(whole(text, None, reasoning=text[:5])) for text in texts]
    reply(server, *(f"data: {json.dumps(message)}\n\n" for message in said), END, DONE)
    assert ask(far) == Said("Hello there.", "Hello", "", "eos", "")
    parts = [json.loads(whole(text, None)) for text in ("Hello", " there.")]
    reply(server, *(f"data: {json.dumps(message)}\n\n" for message in parts), END, DONE)
    assert ask(far).text == "Hello there."


CONTEXT = "the request exceeds the available context size"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f'data: {{"error": {{"code": 400, "message": "{CONTEXT}"}}}}\n\n' + DONE, CONTEXT),
        (f'error: {{"code": 400, "message": "{CONTEXT}"}}\n\n' + DONE, CONTEXT),
        ('event: error\ndata: {"message": "out of memory", "code": 500}\n\n' + DONE, "out of mem"),
        ("event: error\ndata: the worker died\n\n", "the worker died"),
        ('event: error\ndata: {"code": 7}\n\n', '{"code": 7}'),
        (f'data: {{"error": "{CONTEXT}"}}\n\n', CONTEXT),
        ('data: {"detail": "Not enough memory"}\n\n', "Not enough memory"),
        ('data: {"object": "error", "message": "no such model", "code": 404}\n\n', "no such model"),
        ('data: [{"error": {"message": "quota"}}]\n\n', "quota"),
        ('data: {"error": true, "message": "quota"}\n\n', "an error: quota"),
        ('data: {"error": 1, "message": "quota"}\n\n', "an error: quota"),
        ('data: {"error": 7}\n\n', "an error: 7"),
        ('data: {"errors": [{"message": "too busy"}]}\n\n', "too busy"),
        ('data: {"choices": [{"error": {"message": "upstream"}, "delta": {}}]}\n\n', "upstream"),
        (chunk("error"), 'error: {"index": 0, "delta": {}, "finish_reason": "error"}'),
        (f'{{"error": {{"code": 400, "message": "{CONTEXT}"}}}}', CONTEXT),
        (f'{{"error":\n{{"message":\n"{CONTEXT}"}}}}\n', CONTEXT),
        ('{"detail": [{"loc": ["body", "prompt"], "msg": "too long"}]}', "body.prompt: too long"),
    ],
)
def test_an_error_is_told_in_the_servers_words(far, server, body, words) -> None:
    for before in ("", HELLO, HELLO + END):
        if before and not body.startswith(("data", "event")):
            continue
        reply(server, before + body)
        said = ask(far)
        assert said.reason == "error"
        assert said.text == ("Hello there." if before else "")
        assert "chat-model at http://127.0.0.1" in said.error
        assert "reports an error: " in said.error
        assert words in said.error
        assert "\n" not in said.error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "without saying why"),
        ('{"id": "x", "choices": []}', "the form of OpenAI's API; it sent: {\"id\": \"x\", \"choi"),
        (chunk("stop", index=1, content="Hi") + DONE, 'sent no answer'),
        (chunk("stop", index=1, content="Hi") + DONE, 'it sent: {"choices": [{"index": 1, "del'),
        (whole("Hi").replace('"index": 0', '"index": 1'), '"choices": [{"index": 1, "mess'),
        (DONE, "without saying why"),
        (HELLO, "without saying why"),
        ('data: {"usage": {}}\n\n', "the form of OpenAI's API; it sent: {\"usage\": {}}"),
        ('data: {"data": {"choices": []}}\n\n', 'API; it sent: {"data": {"choices": []}}'),
        ('data: {"type": "message_start"}\n\ndata: {"type": "message_stop"}\n\n', "message_start"),
        ('{"message": {"role": "assistant", "content": "Hi"}, "done": true}', 'sent: {"message"'),
        ("<!doctype html><style>p{}</style><title>Open WebUI</title><p>sign in", "“Open WebUI"),
        ("The model is loading.", "It sent: The model is loading."),
        (HELLO + 'data: {"choices": [{"del', 'It sent: {"choices": [{"del'),
        ('data: {"choices": {"0": "x"}}\n\n', "does not answer as it should"),
        ('data: [{"choices": []}]\n\n', "does not answer as it should"),
        ("data: " + "[" * 100_000 + "\n\n", "does not answer as it should"),
        ('data: {"choices": [{}]}\n\n', "without saying why"),
        ('{"error":' * 900 + "1" + "}" * 900, ""),
        (chunk(content=7), "It sent: 7"),
        ("x" * (1 << 22) + "x", "a line of more than 4 MB"),
        (("x" * 1023 + "\n") * (1 << 14) + "x", "more than 16 MB"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_an_error_that_quotes_it(far, server, body, words) -> None:
    reply(server, body)
    said = ask(far)
    assert said.reason == "error"
    assert words in said.error
    assert len(said.error) < 400


def test_a_page_of_a_gateway_is_told_without_its_markup(far, server) -> None:
    page = "<html><head><title>502 Bad Gateway</title></head><body>\n<hr>nginx</body></html>"
    reply(server, page, status=502)
    error = ask(far).error
    assert "answered 502: 502 Bad Gateway nginx. Its model may not be loaded yet." in error
    reply(server, "<h1>Not &amp; found</h1>", status=404)
    assert "answered 404: Not & found. Look at the address" in ask(far).error
    reply(server, '{"error": {"message": "no such model", "type": "x"}}', status=404)
    assert "answered 404: no such model. Look at the address" in ask(far).error


@pytest.mark.parametrize("words", ["too busy", "too busy.", "too busy..", "too busy. ."])
def test_a_servers_words_end_in_one_full_stop(far, server, words) -> None:
    reply(server, words, status=429)
    assert ask(far).error.endswith(
        "answered 429: too busy. It has too much to do. Try again later."
    )
    call = {"function": {"name": words}}
    reply(server, whole(None, tool_calls=[call]))
    assert ask(far).notes == "Its server called a tool: too busy."


def test_a_redirect_is_told_with_its_target_and_not_followed(far, server) -> None:
    there = "https://elsewhere.example/v1/chat/completions?a=SECRET"
    server.say = lambda path, body: (308, [], ("Location", there))
    said = ask(far)
    assert said.error.endswith(
        "308: It has moved to https://elsewhere.example/v1: put that into the trio file "
        "(with its query, which is not shown)."
    )
    server.say = lambda path, body: (307, [], ("Location", "/v2/chat/completions"))
    assert f"moved to http://127.0.0.1:{server.server_port}/v2: put" in ask(far).error
    server.say = lambda path, body: (302, [], ("Location", "https://u:p@sso.example/in?next=x"))
    assert ask(far).error.endswith(
        "302: It redirects to https://sso.example/in, which is not followed. "
        "Look at its address and key."
    )


@pytest.mark.parametrize(("status", "phrase"), [(400, "Bad Request"), (302, "Found")])
def test_a_refusal_without_a_word_says_so(far, server, status, phrase) -> None:
    reply(server, "", status=status)
    assert ask(far).error.endswith(f" answered {status} {phrase}, without a word.")


def test_a_long_message_is_cut_between_words(far, server) -> None:
    reply(server, "word " * 39 + "and more", status=400)
    assert ask(far).error.endswith("word word and…")
    reply(server, "x" * 300, status=429)
    assert f": {'x' * 199}… It has too much to do." in ask(far).error


def test_a_connection_that_breaks_off_keeps_what_had_come(far, server) -> None:
    length = ("Content-Length", "100000")
    server.say = lambda path, body: (200, [HELLO], length)
    said = ask(far)
    assert (said.text, said.reason) == ("Hello there.", "error")
    assert "broke off its answer: peer closed connection" in said.error
    server.say = lambda path, body: (200, [HELLO + END], length)
    assert ask(far) == Said("Hello there.", "", "", "eos", "")


def test_bytes_that_are_no_text_are_shown_as_such(far, server) -> None:
    reply(server, chunk(content="caf\u00e9").encode("latin-1"), END)
    assert ask(far).text == "caf\ufffd"
    assert "bytes that are not UTF-8" in ask(far).notes


@pytest.mark.parametrize(("second", "text"), [("\\ude42", "a🙂b"), ("", "a�b")])
def test_a_character_in_two_events_is_one(far, server, second, text) -> None:
    parts = ("a\\ud83d", f"{second}b", "")
    bodies = [f'data: {{"choices": [{{"delta": {{"content": "{part}"}}}}]}}\n\n' for part in parts]
    reply(server, *bodies, END)
    assert ask(far).text == text
    reply(server, bodies[0], END)
    assert ask(far).text == "a�"


def test_column_and_terminal_show_reasoning_folded_and_notes(far, server, capsys) -> None:
    from rich.console import Console

    reply(server, chunk(reasoning="First \x1b[31mthink.") + HELLO + chunk("odd") + DONE)
    request = Request(JOKE, Sampling(8), roles=("instruct",))
    answers = finish(follow(begin(far, request), far.stream(request)))
    pane = answer_view.pane(answers["instruct"])
    assert (pane["text"], pane["reasoning"]) == ("Hello there.", "First \x1b[31mthink.")
    assert pane["notes"] == "Its server gave the finish reason “odd”."
    assert pane["meta"].endswith("ended for an unknown reason (unknown)")
    assert badge(answers["instruct"], JOKE) == "unknown"
    show_answers(far.trio, follow(begin(far, request), far.stream(request)), Console(width=200))
    printed = capsys.readouterr().out
    assert "reasoning, 2 words (--json prints all): First \\x1b[31mthink." in printed
    assert "Its server gave the finish reason “odd”." in printed


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("content_filter", "filtered"), ("tool_calls", "tool"), ("refusal", "refused")],
)
def test_a_badge_says_what_a_server_did(far, server, reason, kind) -> None:
    reply(server, chunk(content="Tell me a joke") + chunk(reason))
    request = Request(JOKE, Sampling(8), roles=("instruct",))
    answers = finish(follow(begin(far, request), far.stream(request)))
    assert badge(answers["instruct"], JOKE) == kind


@pytest.mark.browser
def test_the_page_folds_reasoning_above_the_answer(far, server, serve, visit) -> None:
    reply(server, chunk(reasoning="<b>First</b> think.") + HELLO + chunk("odd") + DONE)
    page = visit(serve(lambda trio, report: far, [far.trio]))
    page.click("#compare")
    wait_done(page)
    column = page.locator("#column-instruct")
    assert column.locator(".pane-text").text_content() == "Hello there."
    assert not column.locator(".reasoning").is_visible()
    column.locator(".pane-reasoning summary").click()
    assert column.locator(".reasoning").inner_text() == "<b>First</b> think."
    assert "finish reason “odd”" in column.locator(".pane-notes").inner_text()
    assert serious(page) == []
    page.click("#tabs [role=tab]:has-text('Grid')")
    page.fill("#grid-input textarea", "Tell me a joke")
    page.click("#grid-run")
    page.wait_for_selector("#grid-status .line[data-kind=done]", timeout=20_000)
    cells = page.locator("#tabs td.instruct")
    assert cells.locator(".reasoning").all_text_contents() == ["<b>First</b> think."] * 3
    assert "ended, unknown why" in cells.locator(".grid-badge").all_text_contents()
