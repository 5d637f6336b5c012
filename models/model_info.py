"""What a trio is once it is loaded: weights, head, memory; and how far loading has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeadGate:
    """Whether steps use the screened head, and what that was decided by.

    Measured at load on a fixed text under all variants of a group, against the exact head.
    """

    used: bool
    reason: str = ""
    """Why not."""
    candidates: int = 0
    """Tokens of each step whose logits are exact."""
    positions: int = 0
    kl: float = 0.0
    """Kullback-Leibler divergence from the exact head, in nats, mean over the positions."""
    top1: float = 1.0
    """Share of the positions whose likeliest token is the same."""
    loss_exact: float = 0.0
    """Nats a token."""
    loss_screened: float = 0.0
    exact_s: float = 0.0
    """Seconds for one row of each variant."""
    screened_s: float = 0.0
    extra_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which weights answer for a variant, and how they are held."""

    model: str
    adapter: str | None
    precision: str
    dtype: str
    device: str
    fingerprint: str
    """Hash over the logits of one fixed probe prompt: equal weights give equal fingerprints. Empty
    where a server does not tell logits."""
    head: HeadGate
    """How the output head is computed, and by what that was decided."""
    strength: float = 1.0
    """Scale of the adapter."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a trio holds, in bytes."""

    base_bytes: int
    """The base's weights, once, however many variants share them."""
    adapter_bytes: int
    head_bytes: int
    """The copy of the output head in 8 bits, where steps use one."""
    kv_bytes_per_token: int
    """Keys and values of one token of one row."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come: loading a trio, a benchmark, an experiment."""

    step: str
    """The step under way."""
    done: float
    """Share of the work that is done, from 0 to 1."""
    total: int = 1
    """Items that the work consists of, where it is counted in items."""


ProgressCallback = Callable[[Progress], None]
"""Called now and then while long work runs."""
