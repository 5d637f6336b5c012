"""The compute thread, the only one that runs torch.

OpenMP keeps a team of threads for every thread that ever computed, and once the teams have more
threads than there are cores, each team goes to sleep after every product: a step that takes 29 ms
takes 72. So loading, warm-up and inference run on this thread, for all requests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

from models.serving.threads import ThreadCount, fastest_count

P = ParamSpec("P")
T = TypeVar("T")

_thread = ThreadPoolExecutor(1, "triptych")


def submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run a function on the compute thread; code on that thread must not wait for the result."""
    return _thread.submit(function, *args, **kwargs)


@cache
def thread_count() -> ThreadCount:
    """Return the choice of the compute thread's number of threads. Called on that thread."""
    import torch

    threads = ThreadCount(torch.get_num_threads(), torch.set_num_threads)
    if os.environ.get("OMP_NUM_THREADS"):
        threads.choices = [threads.count]
    return threads


def choose_thread_count() -> None:
    """Measure with how many threads a product is fastest now. Called on the compute thread.

    What OMP_NUM_THREADS says is left as it is.
    """
    import torch

    def work() -> None:
        for _ in range(3):
            torch.mm(states, weight)

    states, weight = torch.ones(64, 640), torch.ones(640, 2048)
    threads = thread_count()
    if len(threads.choices) > 1:
        threads.keep(fastest_count(threads.choices, torch.set_num_threads, work))
