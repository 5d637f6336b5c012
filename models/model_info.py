"""Facts about a loaded trio (weights, output head, memory), and the progress of long work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeadGate:
    """Whether decode steps use the screened output head, and the measurement that decided it.

    When a group of variants is loaded, both heads compute a fixed text under each of them. A
    candidate is a token whose logit the screened head computes exactly.
    """

    used: bool
    reason: str = ""
    """Why the screened head is not used; empty if it is."""
    candidates: int = 0
    """Number of candidates at each position."""
    positions: int = 0
    """Number of positions of the text, over all variants; 0 if nothing was measured."""
    kl: float = 0.0
    """Kullback-Leibler divergence from the exact head, in nats, mean over the positions."""
    top1: float = 1.0
    """Share of the positions whose likeliest token is the same."""
    loss_exact: float = 0.0
    """Mean loss by the exact head, in nats per token."""
    loss_screened: float = 0.0
    """Mean loss by the screened head."""
    exact_s: float = 0.0
    """Seconds of the exact head for one row of each variant."""
    screened_s: float = 0.0
    extra_bytes: int = 0
    """Memory of the screened head's 8-bit copy of the weights."""


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A GPU's decode step of fixed shape, compared with the ordinary one on a fixed prompt."""

    rows: int
    """Sequences that the step computes at once."""
    columns: int
    """Cached tokens of each that it reads."""
    captured: bool
    """Whether it is a CUDA graph."""
    difference: float
    """Largest difference of a logit, as a share of its row's largest."""
    tolerance: float
    """Largest difference that is allowed."""
    tokens: int
    """Number of tokens compared."""
    same_tokens: int
    fault: str = ""
    """Why the step is not used, so that ordinary steps run in its place; empty if it is used."""


def describe_steps(checks: Sequence[StepCheck]) -> str:
    """Return in a sentence or two how the steps of fixed shape compare; empty if there are none."""
    used = [check for check in checks if not check.fault]
    parts = []
    if used:
        kind = "CUDA graphs" if all(check.captured for check in used) else "steps of fixed shape"
        rows = ", ".join(str(n) for n in sorted({check.rows for check in used}))
        same, tokens = (
            sum(n) for n in zip(*((c.same_tokens, c.tokens) for c in used), strict=True)
        )
        parts.append(
            f"{kind} of {rows} rows: on a fixed prompt {same} of {tokens} tokens are those of "
            f"ordinary steps, and logits differ by {max(c.difference for c in used):.2%} at most "
            f"({used[0].tolerance:.1%} is allowed)"
        )
    parts += [
        f"ordinary steps for {check.rows} rows of up to {check.columns} tokens, as that step of "
        f"fixed shape was wrong: {check.fault}"
        for check in checks
        if check.fault
    ]
    return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights answer for a variant, and in which precision and on which device."""

    model: str
    adapter: str | None
    precision: str
    """Of the linear layers: `nf4`, `fp4`, `int8`, or `none` for the dtype they are stored in."""
    dtype: str
    device: str
    fingerprint: str
    """Hash of every weight that answers, and of the logits of one fixed prompt: equal weights have
    equal fingerprints. Empty for a server, which shows neither."""
    head: HeadGate
    """How the output head is computed."""
    strength: float = 1.0
    """Scale of the adapter: 0 is the base, 1 as trained."""
    changes_nothing: bool = False
    """Whether the adapter's every update is zero, so that it answers as its base does."""
    steps: str = ""
    """How a GPU's steps of fixed shape compare with ordinary ones; empty on a CPU, without any."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that a trio takes, in bytes."""

    base_bytes: int
    """The base's weights, once, however many variants share them."""
    adapter_bytes: int
    head_bytes: int
    """The screened head's 8-bit copy, if decode steps use one."""
    kv_bytes_per_token: int
    """Keys and values of one token of one row."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of long work: loading a trio, a benchmark, an experiment."""

    step: str
    """The current step."""
    done: float
    """Share of the work that is done, from 0 to 1."""
    total: int = 1
    """Number of items of work, if it is counted in items."""


ProgressCallback = Callable[[Progress], None]
"""Called now and then while long work runs."""
