"""What an adapter changes in a base, as plain tensors. Knows no files and no library.

The paths are those of the base's own modules, such as `model.layers.0.self_attn.q_proj`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LoraUpdate:
    """A low-rank update of a linear layer: W + scaling · B · A (Hu et al. 2106.09685, §4.1).

    With a magnitude m it is DoRA (Liu et al. 2402.09353, §4): each row of the sum is then scaled to
    the length that m gives.
    """

    a: Tensor
    """(r, in)."""
    b: Tensor
    """(out, r)."""
    scaling: float
    magnitude: Tensor | None = None
    """(out,)."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Trained rows of an embedding or an output head, which replace the base's."""

    ids: tuple[int, ...]
    """The tokens that the rows belong to."""
    rows: Tensor
    """(tokens, d)."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """Everything that one adapter changes; each mapping's keys are module paths."""

    lora: Mapping[str, LoraUpdate] = field(default_factory=dict)
    token_rows: Mapping[str, TokenRows] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Modules that were trained whole: their parameters, by name."""
