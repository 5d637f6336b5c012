"""Linear layers side by side, against each alone."""

from __future__ import annotations

import tiny
import torch


def test_joined_4_bit_layers_are_the_same_to_the_last_bit() -> None:
    from models.engine.layers.nf4 import concatenate

    torch.manual_seed(0)
    weights = [torch.randn(32 * n, 128).bfloat16() for n in (4, 1, 2)]
    x = torch.randn(3, 1, 128).bfloat16()
    with torch.inference_mode():
        apart = torch.cat([tiny.four_bit(weight)(x) for weight in weights], -1)
        assert torch.equal(concatenate([tiny.four_bit(weight) for weight in weights])(x), apart)
