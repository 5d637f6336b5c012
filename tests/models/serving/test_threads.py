"""The number of threads follows what steps take, beside neighbours that come and go."""

from __future__ import annotations

import random

import pytest
import torch

from models.serving.compute_thread import choose_thread_count, submit, thread_count
from models.serving.threads import ThreadCount, fastest_count

QUIET = {1: 14.0, 2: 11.0}
NEIGHBOUR = {1: 14.0, 2: 38.0}
"""Milliseconds of a step with one thread and with two, alone and beside a busy process."""


class Machine:
    """Steps of three sizes, whose durations scatter, and a choice of threads that sees them."""

    def __init__(self, most=2) -> None:
        self.set: list[int] = []
        self.threads = ThreadCount(most, self.set.append)
        self.random = random.Random(0)

    def steps(self, count, milliseconds) -> float:
        """Run steps; return their mean duration in units of the fastest possible."""
        total, best = 0.0, 0.0
        for _ in range(count):
            size = self.random.choice([3, 9, 24])
            scatter = self.random.uniform(0.9, 1.1) * (1 + size / 24) / 1000
            seconds = milliseconds[self.threads.count] * scatter
            self.threads.record("one", size, seconds)
            total += seconds
            best += min(milliseconds.values()) * scatter
        return total / best


def test_alone_all_threads_compute_and_nothing_is_tried() -> None:
    machine = Machine()
    assert machine.steps(3000, QUIET) < 1.01
    assert machine.threads.count == 2


def test_a_neighbour_is_noticed_within_steps_and_so_is_that_it_left() -> None:
    machine = Machine()
    machine.steps(100, QUIET)
    assert machine.steps(40, NEIGHBOUR) < 1.8
    assert machine.threads.count == 1
    assert machine.steps(2000, NEIGHBOUR) < 1.06
    assert machine.threads.count == 1
    machine.steps(1100, QUIET)
    assert machine.threads.count == 2
    assert machine.steps(500, QUIET) < 1.02


def test_a_neighbour_at_the_start_is_noticed_by_trying() -> None:
    machine = Machine()
    machine.steps(200, NEIGHBOUR)
    assert machine.threads.count == 1


def test_a_slow_step_now_and_then_changes_nothing() -> None:
    machine = Machine()
    for _ in range(100):
        machine.steps(29, QUIET)
        machine.threads.record("one", 3, 0.2)
    assert machine.threads._kept == 2


def test_what_was_never_timed_is_not_compared() -> None:
    machine = Machine()
    for size in range(500):
        machine.threads.record(size, 3, 0.01)
    assert machine.threads.count == 2


@pytest.mark.parametrize("most", [1, 4, 8])
def test_with_another_number_than_two_it_stays(most) -> None:
    machine = Machine(most)
    milliseconds = dict.fromkeys(range(1, most + 1), 11.0)
    machine.steps(300, milliseconds)
    machine.steps(300, dict.fromkeys(milliseconds, 40.0))
    assert machine.set == []
    assert machine.threads.choices == [most]


def test_steps_that_are_slow_with_one_thread_do_not_keep_it_from_trying_two() -> None:
    machine = Machine()
    machine.threads.keep(1)
    for _ in range(120):  # bursts, as of a host that takes the core away
        machine.steps(6, QUIET)
        machine.steps(4, {1: 25.0, 2: 11.0})
    assert machine.threads.count == 2


def test_steps_of_other_work_are_not_compared_with_each_other() -> None:
    machine = Machine()
    for _ in range(2000):
        machine.threads.record("small", 3, 0.03)
        machine.threads.record("large", 3, 0.12)
    assert machine.threads.count == 2


def test_the_fastest_number_is_found_by_doing_the_work(monkeypatch) -> None:
    now, count = 0.0, 0

    def set_count(number) -> None:
        nonlocal count
        count = number

    def work() -> None:
        nonlocal now
        now += {1: 0.3, 2: 0.1, 4: 0.2}[count]

    monkeypatch.setattr("models.serving.threads.time.perf_counter", lambda: now)
    assert fastest_count([1, 2, 4], set_count, work) == 2
    assert count == 4  # whoever takes the result sets it


@pytest.mark.parametrize("fastest", [1, 2])
def test_the_compute_thread_computes_with_the_number_that_was_chosen(monkeypatch, fastest) -> None:
    def tried(counts, set_count, work) -> int:
        work()
        for count in counts:
            set_count(count)
        return fastest

    threads = ThreadCount(2, torch.set_num_threads)
    monkeypatch.setattr("models.serving.compute_thread.thread_count", lambda: threads)
    monkeypatch.setattr("models.serving.compute_thread.fastest_count", tried)
    before = submit(torch.get_num_threads).result()
    try:
        for _ in range(2):  # at each trio that is opened
            submit(choose_thread_count).result()
            assert submit(torch.get_num_threads).result() == threads.count == fastest
    finally:
        submit(torch.set_num_threads, before).result()


def test_a_number_that_the_environment_says_is_left(monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads = submit(thread_count.__wrapped__).result()
    assert threads.choices == [threads.count]
