"""How many threads torch computes with, by how long the same work takes with more and with fewer.

Threads that share a product wait for the last of them. A neighbour that takes one core away for a
moment holds up all of them, in every product: on two cores one busy neighbour makes steps three
times as long, while one thread alone would lose a quarter. The system does not say who else
computes, and a host that takes a virtual core away says nothing at all. So it is measured: when
loading begins, by a product, and while answers are made, by steps that are tried with another
number of threads. Between one thread and two, results are equal to the bit. With more, torch
divides some sums and vectors elsewhere, and the number stays as it is.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from statistics import mean, median

FASTER = 0.95
"""Share of its duration to which another number of threads must shorten a step to be kept."""
SLOW = 1.5
"""Times its usual duration from which a step is slow."""
_SLOW_STEPS, _RECENT = 3, 8
"""Number of slow steps among the recent ones that starts a trial."""
_TRIAL_STEPS = 4
"""Steps that a trial compares; one more, in which threads wake up, goes before."""
_HOPELESS, _HOPELESS_FIRST = 1.3, 2.0
"""Times its usual duration from which one step with more threads ends their trial, and from which
the first step does."""
_OUTLIER = 4.0
"""Times its usual duration that a step counts at most."""
_FIRST_PAUSE, _FIRST_PAUSE_BELOW, _LONGEST_PAUSE = 64, 256, 512
"""Steps between trials, with all threads and with fewer: a trial with more costs much. Where steps
are slow it is an eighth; each trial that changes nothing doubles it."""


class ThreadCount:
    """Chooses the number of threads while steps run; tells `set_count` when it changes."""

    def __init__(self, most: int, set_count: Callable[[int], None]) -> None:
        """Begin with `most` threads."""
        self.choices = [1, 2] if most == 2 else [most]
        """The numbers that are tried, in ascending order."""
        self.count = most
        """Threads that compute now."""
        self._set_count = set_count
        self._kept = most
        """Threads outside of trials."""
        self._pause = _FIRST_PAUSE
        self._begin()

    def _begin(self) -> None:
        """Forget all steps."""
        self._seconds: dict[Hashable, dict[int, deque[float]]] = defaultdict(dict)
        """Durations of the last steps of each kind and size, with the number that is kept."""
        self._recent: deque[float] = deque(maxlen=_RECENT)
        """Recent durations as shares of the usual ones of their size."""
        self._trial: list[float] = []
        """The same of a trial's steps, with the other number of threads."""
        self._trial_steps = self._since_trial = 0

    def keep(self, count: int) -> None:
        """Compute with one of the choices from now on, whatever torch was set to meanwhile."""
        self._kept = self.count = count
        self._set_count(count)
        self._pause = _FIRST_PAUSE if count == self.choices[-1] else _FIRST_PAUSE_BELOW
        self._begin()

    def record(self, kind: Hashable, rows: int, seconds: float) -> None:
        """Take note of a step.

        Args:
            kind: equal for steps that are to be compared.
            rows: the step's rows; more take longer.
            seconds: how long it took with `count` threads.
        """
        usual = self._usual(kind, rows)
        share = None if usual is None else min(_OUTLIER, seconds / usual)
        if self.count != self._kept:
            self._go_on_trying(share)
            return
        self._seconds[kind].setdefault(rows, deque(maxlen=15)).append(seconds)
        self._since_trial += 1
        if share is not None:
            self._recent.append(share)
        slow = sum(share > SLOW for share in self._recent) >= _SLOW_STEPS
        is_lowest = self._kept == self.choices[0]
        pause = self._pause // 8 if slow and not is_lowest else self._pause
        if self._since_trial >= pause and self._recent and len(self.choices) > 1:
            self._trial, self._trial_steps, self._since_trial = [], 0, 0
            self._set(self.choices[1 if is_lowest else 0])

    def _usual(self, kind: Hashable, rows: int) -> float | None:
        """Return the usual duration of such a step, or of the nearest number of rows that is known.

        None is returned if nothing like it is known.
        """
        known = {
            other: seconds for other, seconds in self._seconds[kind].items() if len(seconds) >= 3
        }
        if not known:
            return None
        return median(known[min(known, key=lambda other: abs(other - rows))])

    def _go_on_trying(self, share: float | None) -> None:
        """Take note of a trial's step, and end the trial when it is decided."""
        self._trial_steps += 1
        # Without the slowest: one step in a while is slow with any number of threads.
        before = mean(sorted(self._recent)[: max(1, len(self._recent) - 1)])
        more = self.count > self._kept
        limit = _HOPELESS_FIRST if self._trial_steps == 1 else _HOPELESS
        if more and share is not None and share > limit * before:
            self._end_trial()
            return
        if share is not None and self._trial_steps > 1:
            self._trial.append(share)
        if len(self._trial) == _TRIAL_STEPS:
            if mean(self._trial) < FASTER * before:
                self.keep(self.count)
            else:
                self._end_trial()
        elif self._trial_steps > 4 * _TRIAL_STEPS:
            self._end_trial()

    def _end_trial(self) -> None:
        """Return to the number of threads before the trial."""
        self._set(self._kept)
        self._recent.clear()
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _set(self, count: int) -> None:
        if count != self.count:
            self.count = count
            self._set_count(count)


def fastest_count(
    counts: list[int], set_count: Callable[[int], None], work: Callable[[], object]
) -> int:
    """Return the number of threads with which a piece of work takes the shortest time.

    Args:
        counts: the numbers to try; `set_count` is called with the last of them at last.
        set_count: sets the number of threads.
        work: takes some milliseconds.
    """
    seconds: dict[int, float] = defaultdict(float)
    for count in counts:
        set_count(count)
        work()  # threads start, caches fill
    for _ in range(3):
        for count in counts:
            set_count(count)
            began = time.perf_counter()
            work()
            seconds[count] += time.perf_counter() - began
    return min(counts, key=lambda count: seconds[count])
