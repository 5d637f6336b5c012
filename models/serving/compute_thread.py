"""The compute thread, the only one that runs torch.

OpenMP keeps a team of threads for every thread that ever computed, and once the teams have more
threads than there are cores, each team goes to sleep after every product: a step that takes 29 ms
takes 72. So loading, warm-up and inference run on this thread, for all requests.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_thread = ThreadPoolExecutor(1, "triptych")


def submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Run a function on the compute thread; code on that thread must not wait for the result."""
    return _thread.submit(function, *args, **kwargs)
