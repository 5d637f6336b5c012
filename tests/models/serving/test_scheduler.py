"""Several people at once, over a scripted engine whose steps take a known time."""

from __future__ import annotations

import time
from contextlib import closing

import pytest
from scripted import eventually

from models import ROLES, Prompt, Queued, Request, Sampling, Stop, Token, WeightsError, find_trio
from models.backends.fake import FakeBackend

PROMPT = Prompt("Tell me a joke")
SCRIPT = {role: [f" {n}" for n in range(200)] for role in ROLES}
STEP_S = 0.02


def open_fake(max_rows: int) -> FakeBackend:
    return FakeBackend(find_trio(), SCRIPT, STEP_S, max_rows)


@pytest.fixture
def one_at_a_time():
    with closing(open_fake(max_rows=3)) as backend:
        yield backend


@pytest.fixture
def four_at_a_time():
    with closing(open_fake(max_rows=12)) as backend:
        yield backend


def tokens(events, role) -> int:
    return sum(isinstance(event, Token) and event.role == role for event in events)


def reasons(events) -> dict:
    return {event.role: event.reason for event in events if isinstance(event, Stop)}


def test_two_share_a_step(four_at_a_time) -> None:
    streams = [four_at_a_time.stream(Request(PROMPT, Sampling(20))) for _ in range(2)]
    began = time.monotonic()
    answers = [[next(stream)] for stream in streams]
    for events, stream in zip(answers, streams, strict=True):
        events += list(stream)
    assert all(tokens(events, role) == 20 for events in answers for role in ROLES)
    assert not [event for events in answers for event in events if isinstance(event, Queued)]
    assert time.monotonic() - began < 1.5 * 20 * STEP_S + 0.3  # and not twice that, in turn


def test_who_finds_no_room_waits_in_the_order_of_asking(one_at_a_time) -> None:
    streams = [one_at_a_time.stream(Request(PROMPT, Sampling(10))) for _ in range(3)]
    first = next(streams[0])
    assert isinstance(first, Token)
    assert [next(streams[1]), next(streams[2])] == [Queued(1), Queued(2)]
    streams[0].close()
    second = list(streams[1])
    assert second[0] == Queued(0)
    assert reasons(second) == dict.fromkeys(ROLES, "length")
    third = [event for event in streams[2] if not isinstance(event, Queued) or event.place < 2]
    assert third[:2] == [Queued(1), Queued(0)]
    assert reasons(third) == dict.fromkeys(ROLES, "length")


def test_a_small_one_does_not_overtake_a_large_one() -> None:
    with closing(open_fake(max_rows=5)) as backend:
        few = Request(PROMPT, Sampling(5), roles=("base",))  # there is room for it
        requests = [Request(PROMPT, Sampling(5)), Request(PROMPT, Sampling(5)), few]
        streams = [backend.stream(request) for request in requests]
        next(streams[0])
        assert [next(stream) for stream in streams[1:]] == [Queued(1), Queued(2)]
        assert all(reasons(list(stream)) for stream in streams)


def test_more_rows_than_may_share_a_step_run_alone() -> None:
    with closing(open_fake(max_rows=2)) as backend:
        assert reasons(backend.stream(Request(PROMPT, Sampling(3)))) == dict.fromkeys(
            ROLES, "length"
        )


def test_a_role_that_is_sent_in_stops_alone_within_a_step(four_at_a_time) -> None:
    with closing(four_at_a_time.stream(Request(PROMPT, Sampling(12)))) as stream:
        events = [next(stream), stream.send(["base"]), *stream]
    assert reasons(events) == {"base": "cancelled", "task": "length", "instruct": "length"}
    assert tokens(events, "base") <= 3
    assert tokens(events, "task") == 12


def test_roles_that_are_sent_in_one_after_the_other_all_stop(four_at_a_time) -> None:
    with closing(four_at_a_time.stream(Request(PROMPT, Sampling(12)))) as stream:
        events = [next(stream), stream.send(["base"]), stream.send(["instruct"]), *stream]
    assert reasons(events) == {"base": "cancelled", "task": "length", "instruct": "cancelled"}


def test_a_stop_is_heard_while_nothing_is_said() -> None:
    with closing(FakeBackend(find_trio(), SCRIPT, delay_s=0.4)) as backend:
        stream = backend.stream(Request(PROMPT, Sampling(12)))
        events = [next(stream) for _ in range(3)]
        assert next(stream) == Queued(0)  # between two steps
        events.append(stream.send(ROLES))
        assert reasons([*events, *stream]) == dict.fromkeys(ROLES, "cancelled")


def test_what_is_stopped_while_it_waits_never_begins(one_at_a_time) -> None:
    first = one_at_a_time.stream(Request(PROMPT, Sampling(200)))
    next(first)
    second = one_at_a_time.stream(Request(PROMPT, Sampling(4)))
    assert next(second) == Queued(1)
    assert second.send(["base"]) == Queued(1)
    first.close()
    events = list(second)
    assert tokens(events, "base") == 0
    assert reasons(events) == {"base": "cancelled", "task": "length", "instruct": "length"}


def test_all_that_is_stopped_while_it_waits_leaves_the_line(one_at_a_time) -> None:
    first = one_at_a_time.stream(Request(PROMPT, Sampling(200)))
    next(first)
    second = one_at_a_time.stream(Request(PROMPT, Sampling()))
    assert next(second) == Queued(1)
    events = [second.send(ROLES), *second]
    assert reasons(events) == dict.fromkeys(ROLES, "cancelled")
    assert eventually(lambda: one_at_a_time.open_requests == 1)
    first.close()


def test_closing_frees_the_place_of_the_next(one_at_a_time) -> None:
    first = one_at_a_time.stream(Request(PROMPT, Sampling(200)))
    next(first)
    second = one_at_a_time.stream(Request(PROMPT, Sampling(2)))
    assert next(second) == Queued(1)
    first.close()
    assert reasons(second) == dict.fromkeys(ROLES, "length")


def test_a_deadline_ends_one_and_leaves_the_other(four_at_a_time) -> None:
    late = four_at_a_time.stream(Request(PROMPT, Sampling(100), deadline_s=3 * STEP_S))
    other = four_at_a_time.stream(Request(PROMPT, Sampling(10)))
    events = [next(late)]
    next(other)
    assert reasons([*events, *late]) == dict.fromkeys(ROLES, "deadline")
    assert reasons(other) == dict.fromkeys(ROLES, "length")


def test_a_long_prompt_does_not_hold_up_a_short_one(four_at_a_time) -> None:
    long = four_at_a_time.stream(Request(Prompt("word " * 64 * 30), Sampling(5)))
    short = four_at_a_time.stream(Request(PROMPT, Sampling(5)))
    assert next(long) == Queued(0)  # still reading
    began = time.monotonic()
    assert reasons(short) == dict.fromkeys(ROLES, "length")
    assert time.monotonic() - began < 30 * STEP_S  # the long one takes three times that to read
    assert reasons(long) == dict.fromkeys(ROLES, "length")


def test_an_error_of_one_row_is_of_that_comparison_alone(four_at_a_time, monkeypatch) -> None:
    other = four_at_a_time.stream(Request(PROMPT, Sampling(20)))
    events = [next(other)]
    prefill = four_at_a_time._engine.prefill

    def failing(running):
        raise ValueError("no such token")

    monkeypatch.setattr(four_at_a_time._engine, "prefill", failing)
    with pytest.raises(ValueError, match="no such token"):
        list(four_at_a_time.stream(Request(PROMPT, Sampling(5))))
    monkeypatch.setattr(four_at_a_time._engine, "prefill", prefill)
    assert reasons([*events, *other]) == dict.fromkeys(ROLES, "length")
    assert tokens(events, "base") <= 1


def test_an_error_of_a_step_that_all_share_is_told_to_all(four_at_a_time, monkeypatch) -> None:
    streams = [four_at_a_time.stream(Request(PROMPT, Sampling(50))) for _ in range(2)]
    for stream in streams:
        next(stream)
    launch = four_at_a_time._engine.start_step
    monkeypatch.setattr(four_at_a_time._engine, "start_step", lambda rows: [][0])
    for stream in streams:
        with pytest.raises(IndexError):
            list(stream)
    monkeypatch.setattr(four_at_a_time._engine, "start_step", launch)
    assert reasons(four_at_a_time.stream(Request(PROMPT, Sampling(2)))) == dict.fromkeys(
        ROLES, "length"
    )


def test_where_memory_is_short_the_longest_row_ends_however_much_it_asked_for(
    four_at_a_time, monkeypatch
) -> None:
    long = four_at_a_time.stream(Request(Prompt("word " * 20), Sampling(90), roles=("base",)))
    events = [next(long)]
    short = four_at_a_time.stream(Request(PROMPT, Sampling(6), roles=("base",)))
    others = [next(short)]
    launch, failed = four_at_a_time._engine.start_step, []

    def fails_once(rows):
        if len(rows) == 2 and not failed:
            failed.append(True)
            raise MemoryError
        return launch(rows)

    monkeypatch.setattr(four_at_a_time._engine, "start_step", fails_once)
    assert reasons([*events, *long]) == {"base": "error"}
    assert reasons([*others, *short]) == {"base": "length"}


def test_what_is_closed_takes_nothing_more() -> None:
    backend = open_fake(max_rows=3)
    backend.close()
    with pytest.raises(WeightsError, match="is closed"):
        next(backend.stream(Request(PROMPT, Sampling())))


def test_closing_the_backend_cancels_all() -> None:
    backend = open_fake(max_rows=3)
    streams = [backend.stream(Request(PROMPT, Sampling(200))) for _ in range(2)]
    for stream in streams:
        next(stream)
    backend.close()
    assert backend.open_requests == 0
    assert all(reasons(stream) == dict.fromkeys(ROLES, "cancelled") for stream in streams)


def test_the_worker_comes_to_rest_once_when_nobody_is_left(four_at_a_time) -> None:
    rests = []
    four_at_a_time._scheduler._on_idle = lambda: rests.append(four_at_a_time.open_requests)
    long, short = (four_at_a_time.stream(Request(PROMPT, Sampling(n))) for n in (20, 5))
    next(long)
    list(short)
    assert rests == []
    list(long)
    assert eventually(lambda: rests == [0])
