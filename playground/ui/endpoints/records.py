"""Streams results to callers of the API as growing records. Independent of components."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from models import Form, Format, Prompt, PromptError, Request, Sampling
from playground.comparison import grid as grids
from playground.comparison import records
from playground.comparison.compare import begin, follow
from playground.comparison.trio_loader import TrioLoader
from playground.lens.reading import LensRequest, read
from playground.lens.token_scores import available, lens_record
from playground.ui import answer_view
from playground.ui.work import DEADLINE_S, paint

YIELD_S = 0.25
"""Seconds between two records; longer than `PAINT_S`, since each record is sent whole."""
Records = Generator[dict[str, Any]]


def compare(loader: TrioLoader, request: Request) -> Records:
    """Run a comparison; yield the record so far every `YIELD_S` seconds, and the finished one last.

    If the caller disconnects, the generator is closed at its next yield, which stops the work.

    Raises:
        ModelError: the comparison cannot be done.
    """
    yield from _waiting(loader)
    with loader.used() as trio:
        record = partial(records.comparison_record, trio.trio.name, request)
        answers = begin(trio, request)
        states = follow(answers, trio.stream(request))
        answers = (yield from paint(states, record, every_s=YIELD_S)) or answers
        yield record(answers)


def grid(
    loader: TrioLoader,
    prompts: Mapping[Form, Prompt],
    format: Format,
    settings: Sampling,
    stop_loops: bool = False,
) -> Records:
    """Fill a grid; yield the record so far every `YIELD_S` seconds, and the finished one last.

    Raises:
        ModelError: the grid cannot be filled.
    """
    yield from _waiting(loader)
    record = partial(grids.grid_record, prompts)
    with loader.used() as trio:
        states = grids.fill(trio, prompts, settings, format, DEADLINE_S, stop_loops)
        yield record((yield from paint(states, record, every_s=YIELD_S)) or {})


def lens(
    loader: TrioLoader,
    request: LensRequest,
    position: int | None,
    others: Callable[[], bool] = lambda: False,
) -> Records:
    """Score a text; yield the number of scored tokens meanwhile, and the record last.

    The reading pauses for the answers of others, as long as `others()` says that there are any.

    Raises:
        ModelError: the text cannot be scored, or not in time, or has no such position.
    """
    yield from _waiting(loader)
    until_s = time.monotonic() + DEADLINE_S

    def wanted() -> bool:
        return time.monotonic() < until_s

    with loader.used() as trio, closing(read(trio, request, wanted, others)) as readings:
        for reading in readings:
            if not wanted():
                raise PromptError(
                    f"The text was not read within {DEADLINE_S:g} seconds. Send a shorter one, or "
                    "try again when fewer people ask."
                )
            scores = available(reading.scores)
            if reading.step == "waiting":
                yield {"waiting": f"place {reading.place} in the line"}
            elif reading.step == "scoring":
                yield {"read": sum(len(known.distributions) for known in scores.values())}
    yield {**lens_record(scores, position), "note": reading.note}


def _waiting(loader: TrioLoader) -> Records:
    for progress in loader.wait():
        yield {"waiting": answer_view.loading(progress)}
