"""The engine's optimisations as switches, so that `bench` can measure each by leaving it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which optimisations an engine uses. None of them changes a text.

    docs/results.md lists what each gains.
    """

    fused_linears: bool = True
    """q, k, v as one product, and gate, up (`layers/fused_linear.py`)."""
    fast_norms: bool = True
    """RMS norms in a few operations (`layers/rms_norm.py`)."""
    plain_attributes: bool = True
    """Submodules and parameters found without torch's search (`layers/module.py`)."""
    merged_attention: bool = True
    """One attention call for caches of equal length (`attention/attention.py`)."""
    replayed_steps: bool = True
    """On a CPU, steps recorded once and replayed without Python's modules (`replay/`)."""
    prefix_cache: bool = True
    """KV caches of earlier prompts reused by prompts that start alike (`prefix_cache.py`)."""
    prompt_lookup: bool = True
    """Tokens are guessed ahead and checked in the same step (`prompt_lookup.py`)."""


ALL_OPTIMISATIONS = EngineOptions()
