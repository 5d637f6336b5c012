"""The one thread that computes.

OpenMP keeps a team of threads for every thread that ever computed, and once the teams hold more
threads than there are cores, each team goes to sleep after every product: a step that takes 29 ms
takes 72. So all weights are loaded, warmed and run on this thread, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_thread = ThreadPoolExecutor(1, "triptych")


def submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call a function on the thread that computes; on that thread itself, do not wait for it."""
    return _thread.submit(function, *args, **kwargs)
