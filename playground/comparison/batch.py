"""Many prompts to one trio, several at a time, in order: what evaluations and measurements ask."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing

from models import ROLES, Backend, ModelError, Prompt, Request, Role, Sampling
from playground.comparison.compare import Answers, begin, follow

ROWS = 12
"""Rows that are asked at a time: as many as share a step."""


def ask_all(
    trio: Backend,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    labels: Sequence[str] = (),
    roles: Collection[Role] = ROLES,
) -> Generator[Answers]:
    """Yield the greedy answers to each prompt, in order; closing it cancels what runs.

    Args:
        trio: what answers.
        prompts: each in the variants' own formats.
        max_new_tokens: of each answer.
        labels: ranked as what follows each prompt.
        roles: who answers.

    Raises:
        PromptError: a prompt cannot be sent; those before it were answered.
        ModelError: an answer failed.
    """
    stopping = threading.Event()

    def ask(prompt: Prompt) -> Answers:
        request = Request(prompt, Sampling(max_new_tokens), labels=labels, roles=roles)
        answers = begin(trio, request)
        with closing(follow(answers, trio.stream(request))) as states:
            for state in states:
                answers = state
                if stopping.is_set():
                    raise CancelledError
        for role, one in answers.items():
            if one.error:
                raise ModelError(f"{role}: {one.error}")
        return answers

    with ThreadPoolExecutor(max(1, ROWS // len(roles)), "asking") as pool:
        try:
            yield from pool.map(ask, prompts)
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)
