"""A page that is open to the public, as a process of its own: what it holds, refuses and says."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from page_server import PageProcess, page_process

from playground.ui.server.uploads import MAX_FILES_OF_ONE
from playground.ui.server.visitors import MAX_ANSWERING, UNREAD_S


@pytest.fixture(scope="module")
def served() -> Iterator[PageProcess]:
    with page_process() as page:
        yield page


def said(message: str) -> str:
    """The words of an error's message."""
    kind, _, content = message.partition("\ndata: ")
    assert kind == "event: error", message[:200]
    return str(json.loads(content)["error"])


def test_comparisons_and_refused_calls_leave_nothing_behind(served) -> None:
    def some(count: int) -> None:
        for n in range(count):
            served.call("compare", text=f"word{n} " * (1 + n % 60), max_new_tokens=2 + n % 8)
            served.call("compare", text="")

    some(60)
    before = served.memory_mb()
    some(120)
    assert served.memory_mb() - before < 10  # 240 sessions of 0.5 MB were 120


ARGUMENTS = "text, form, instruction, examples, format, max_new_tokens, temperature"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trio": []}, "There is no trio []. There are: gemma-270m."),
        ({"trio": "x" * 1_000_000}, "There are: gemma-270m."),
        ({"examples": 5}, "examples is 5; it must be a list of 'input => output'."),
        ({"examples": ["x" * 1_000_000]}, "The example 'xxx"),
        ({"form": []}, "There is no form []. There are: instruction, zero-shot, few-shot."),
        ({"format": "x" * 1_000_000}, "There are: own, same."),
        ({"temperature": "hot"}, "temperature is 'hot'; it must be a number from 0 to 10."),
        ({"seed": 10**300}, "it must be a whole number from 0 to 2147483647."),
        ({"text": ["x" * 1_000_000]}, "it must be text."),
        (
            {"text": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
            "A value names a file that was not uploaded here.",
        ),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it_and_what_would_do(
    served, arguments, says
) -> None:
    words = said(served.call("compare", **{"text": "x", **arguments}))
    assert says.replace("no trio []", "no trio [] here") in words
    assert len(words) <= 401
    assert "\n" not in words


@pytest.mark.parametrize("values", [[], ["x"], ["x"] * 19])
def test_too_few_or_too_many_values_are_one_line_with_the_arguments(served, values) -> None:
    reply = served.http.post(f"{served.api}call/compare", json={"data": values})
    words = said(served.messages("compare", reply.json()["event_id"])[-1])
    assert words.startswith(f"compare takes 18 values, and {len(values)} are sent: {ARGUMENTS}")


@pytest.mark.parametrize(
    ("route", "body", "says"),
    [
        ("call/v2/compare", {}, "No value provided for required argument: text."),
        ("call/v2/compare", {"text": "x", "bogus": 1}, "`bogus` is not a valid key-word argument."),
        ("call/v2/nope", {}, "There is no endpoint /nope."),
        ("call/nope", {"data": []}, "There is no endpoint /nope."),
        ("call/compare", {"data": "x" * 100_000}, "body.data: Input should be a valid list."),
        ("queue/join", {"data": [], "fn_index": 9999, "session_hash": "x"}, "No such event."),
        ("run/predict", {"data": [], "fn_index": 9999}, "No such event."),
    ],
)
def test_a_call_that_reaches_no_event_is_one_line(served, route, body, says) -> None:
    reply = served.http.post(f"{served.api}{route}", json=body)
    assert reply.status_code in (400, 422)
    assert says in reply.json()["error"]
    assert len(reply.text) < 300


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"text": "' + b"x" * 3_000_000 + b'"}', 413),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b"\xff\xfe", 422),
    ],
)
def test_bodies_that_are_too_large_or_no_json_are_refused(served, body, status) -> None:
    headers = {"content-type": "application/json"}
    reply = served.http.post(f"{served.api}call/v2/compare", content=body, headers=headers)
    assert reply.status_code == status
    assert len(reply.text) < 200


def test_half_a_character_is_one_line(served) -> None:
    reply = served.http.post(
        f"{served.api}call/v2/compare",
        content=b'{"text": "\\ud800"}',
        headers={"content-type": "application/json"},
    )
    assert "half a character" in said(served.messages("compare", reply.json()["event_id"])[-1])


def upload(page: PageProcess, *files: tuple[str, bytes], address: str = "") -> httpx.Response:
    return page.http.post(
        f"{page.api}upload",
        files=[("files", file) for file in files],
        headers={"x-forwarded-for": address},
    )


def test_one_file_at_a_time_of_a_kind_that_is_read_and_no_larger_than_8_mb(served) -> None:
    assert upload(served, ("rows.csv", b"a,b\n1,2")).status_code == 200
    for files, says in [
        ([("rows.exe", b"x")], "A file is one of .csv, .tsv, .jsonl, .ndjson, .json here."),
        ([("rows", b"x")], "A file is one of .csv"),
        ([("a.csv", b"x"), ("b.csv", b"x")], "2 files are sent; send one at a time."),
        ([("a.csv", b"x" * (9 << 20))], "A request has at most 8 MB here."),
    ]:
        reply = upload(served, *files)
        assert (reply.status_code, says in reply.text) == (413, True), reply.text[:200]


def test_an_address_has_so_many_files_and_others_have_theirs(served) -> None:
    replies = [
        upload(served, (f"{n}.csv", b"a,b\n%d" % n), address="10.9.9.9")
        for n in range(MAX_FILES_OF_ONE + 1)
    ]
    assert [reply.status_code for reply in replies] == [200] * MAX_FILES_OF_ONE + [413]
    assert "files of this address are held" in replies[-1].text
    assert upload(served, ("a.csv", b"a,b"), address="10.9.9.8").status_code == 200


@pytest.mark.parametrize(
    "route",
    [
        "deep_link?session_hash=x",
        "file=http://127.0.0.1/",
        "file=/tmp/gradio/x/rows.csv",
        "process_recording",
        "proxy=http://a.hf.space/",
        "vibe-code",
    ],
)
def test_routes_that_the_page_does_not_use_are_closed(served, route) -> None:
    for reply in (served.http.get(served.api + route), served.http.post(served.api + route)):
        assert (reply.status_code, reply.text) == (404, "There is no such route here.")


def test_41_requests_that_nobody_reads_hold_up_nobody() -> None:
    with page_process(tokens=600, delay_s=0.25) as page:
        events = page.direct_events()
        began = time.monotonic()
        for n in range(41):
            page.ask("compare", f"10.0.0.{n % 16}", text="Tell me a joke")
        # Stop on every tab, the preview, chips, links and the timer.
        replies = [page.http.post(f"{page.api}run/predict", json=event) for event in events]
        assert [reply.text for reply in replies if reply.is_error] == []
        assert len(replies) > 20
        assert time.monotonic() - began < UNREAD_S
        # Somebody else is told the place at once, and answered when the unread ones have ended.
        mine = page.ask("compare", "192.0.2.1", text="Tell me a joke", max_new_tokens=2)
        messages = page.messages("compare", mine)
        place = 41 + 1 - MAX_ANSWERING
        assert f'"waiting": "place {place} in the line"' in messages[0]
        assert messages[-1].startswith("event: complete")
        assert time.monotonic() - began < 3 * UNREAD_S


def test_sigterm_ends_a_page_with_40_running_within_3_seconds() -> None:
    with page_process(tokens=600, delay_s=0.25) as page:
        for n in range(40):
            page.ask("compare", f"10.0.0.{n % 16}", text="Tell me a joke")
        began = time.monotonic()
        page.process.send_signal(signal.SIGTERM)
        output, _ = page.process.communicate(timeout=10)
        assert time.monotonic() - began < 3
        assert page.process.returncode == 0
        assert "Traceback" not in output
