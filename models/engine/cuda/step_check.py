"""Compares a step of fixed shape with the ordinary one on a fixed prompt, before it is used.

Both feed the same tokens to the same rows, each row under another adapter and at another position,
at the beginning of the slots and at the end of the columns that the step reads. The keys and values
that this overwrites are put back, so that sequences which hold these slots go on undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from models.engine.cuda.static_kv_cache import StaticKVCache, StaticKVSlot
from models.engine.interface import AdapterScale
from models.engine.language_model import LanguageModel
from models.engine.sampling.sampler import sample_tokens
from models.model_info import StepCheck
from models.types import GREEDY, Sampling

STEPS = 3
"""Tokens that are fed to each row after the prompt."""
TOLERANCES = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.05}
"""Largest difference of a logit, as a share of its row's largest, by the dtype of the states.

The two steps call other kernels, which round in another order, in every layer.
"""
MAX_LOGPROB_ERROR = 0.01
"""Largest error of a token's log-probability, in nats."""
_PROMPT_TOKENS = 12
_OFFSETS = 3
"""Number of neighbouring positions that rows begin at."""
_SAMPLINGS = (GREEDY, Sampling(temperature=1.0, top_p=0.9), Sampling(temperature=1.0))


class DecodeStep(Protocol):
    """A decode step of the first `count` slots."""

    count: int
    columns_read: int
    """Columns that it reads; greater than any row's position."""
    logits: Tensor
    """(count, V) float32, of the last start."""

    def start(
        self,
        slots: Sequence[StaticKVSlot],
        ids: Sequence[int],
        samplings: Sequence[Sampling],
        uniforms: Sequence[float],
    ) -> Callable[[], list[list[float]]]:
        """Start the step; return a function that waits for each slot's (id, logprob, certain)."""
        ...


@torch.inference_mode()
def check_step(
    lm: LanguageModel, cache: StaticKVCache, step: DecodeStep, prompt: Sequence[int], captured: bool
) -> StepCheck:
    """Compare a step with the ordinary one: logits, and the tokens sampled from them.

    Args:
        lm: the model that both run.
        cache: the static KV cache of the step.
        step: the step to check.
        prompt: token ids of a text; its first twelve are used.
        captured: whether the step is a CUDA graph, for the result.

    Raises:
        RuntimeError: out of memory; the cache is unchanged.
    """
    prompt = prompt[: min(_PROMPT_TOKENS, step.columns_read - STEPS - _OFFSETS)]
    size = len(prompt) + STEPS + _OFFSETS - 1
    results: list[_Comparison] = []
    for start in (0, step.columns_read - size):
        with _restored(cache.kv[:, : step.count, :, start : start + size]):
            results += _compare(lm, cache, step, prompt, start)
    differences = [result.difference for result in results]
    difference = max(differences) if all(map(isfinite, differences)) else inf
    tolerance = TOLERANCES[lm.kv_shape.dtype]
    fault = ""
    if difference == inf:
        fault = "its logits are not all finite numbers"
    elif difference > tolerance:
        fault = f"its logits are off by {difference:.1%} of the largest"
    elif not all(result.follows for result in results):
        fault = "its tokens are not those of its logits"
    return StepCheck(
        rows=step.count,
        columns=step.columns_read,
        captured=captured,
        difference=difference,
        tolerance=tolerance,
        tokens=len(results) * step.count,
        same_tokens=sum(result.same_tokens for result in results),
        fault=fault,
    )


class _Comparison(NamedTuple):
    """A step of each kind on the same inputs."""

    difference: float
    """Largest difference of a logit, as a share of its row's largest."""
    same_tokens: int
    """Rows whose token is the same."""
    follows: bool
    """Whether tokens and log-probabilities of the checked step follow from its own logits."""


@contextmanager
def _restored(columns: Tensor) -> Iterator[None]:
    """Put keys and values back at the end, as they were before."""
    saved = columns.clone()
    try:
        yield
    finally:
        columns.copy_(saved)


def _compare(
    lm: LanguageModel, cache: StaticKVCache, step: DecodeStep, prompt: Sequence[int], start: int
) -> list[_Comparison]:
    """Feed the prompt from a column on, then `STEPS` tokens by each kind of step."""
    rows = range(step.count)
    adapters = [AdapterScale(n % (lm.adapters.count + 1), 1.0) for n in rows]
    slots = [StaticKVSlot(cache, n, adapter) for n, adapter in zip(rows, adapters, strict=True)]
    starts = [start + n % _OFFSETS for n in rows]
    lm.forward(list(zip(slots, starts, strict=True)), [prompt] * step.count)
    samplings = [_SAMPLINGS[n % len(_SAMPLINGS)] for n in rows]
    uniforms = [(n + 0.5) / step.count for n in rows]
    fed = [[prompt[(n + at) % len(prompt)] for n in rows] for at in range(STEPS)]
    checked: list[tuple[Tensor, list[list[float]]]] = []
    for at, ids in enumerate(fed):
        for slot, first in zip(slots, starts, strict=True):
            slot.ids = [0] * (first + len(prompt) + at)
        outputs = step.start(slots, ids, samplings, uniforms)()
        checked.append((step.logits.clone(), outputs))
    results = []
    for at, (ids, (logits, outputs)) in enumerate(zip(fed, checked, strict=True)):
        places = [
            (slot, first + len(prompt) + at) for slot, first in zip(slots, starts, strict=True)
        ]
        expected = lm.head(lm.forward(places, [(id,) for id in ids])[:, -1]).float()
        off = (logits - expected).abs().amax(1) / expected.abs().amax(1)
        follows = sample_tokens(logits, uniforms, samplings)
        ordinary, _ = sample_tokens(expected, uniforms, samplings)
        results.append(
            _Comparison(
                off.max().item(),
                sum(
                    id == int(token)
                    for id, (token, *_) in zip(ordinary.tolist(), outputs, strict=True)
                ),
                all(
                    not certain or (id == int(token) and abs(exact - logprob) <= MAX_LOGPROB_ERROR)
                    for (token, logprob, certain), id, exact in zip(
                        outputs, *(values.tolist() for values in follows), strict=True
                    )
                ),
            )
        )
    return results
