"""Sends many prompts to one trio, several at a time; for evaluations and experiments."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing

from models import ROLES, Backend, ModelError, Prompt, Request, Role, Sampling
from playground.comparison.compare import Answers, begin, follow

ROWS = 12
"""Number of answers generated at the same time: as many as fit in one step of the engine."""


def ask_all(
    trio: Backend,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    labels: Sequence[str] = (),
    roles: Collection[Role] = ROLES,
) -> Generator[Answers]:
    """Yield the greedy answers to each prompt, in order; closing the generator cancels the rest.

    Args:
        trio: the trio that answers.
        prompts: the prompts, each encoded in the variant's own format.
        max_new_tokens: limit of each answer.
        labels: labels whose log-probability after each prompt is computed.
        roles: the variants that answer.

    Raises:
        PromptError: a prompt cannot be encoded; the answers to earlier ones were yielded.
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
        for role, answer in answers.items():
            if answer.error:
                raise ModelError(f"{role}: {answer.error}")
        return answers

    with ThreadPoolExecutor(max(1, ROWS // len(roles)), "asking") as pool:
        try:
            yield from pool.map(ask, prompts)
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)
