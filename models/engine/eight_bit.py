"""Products with weights of 8 bits on processors of plain AVX2, by FBGEMM.

Only to find candidates by: the states are rounded, too, to 7 bits, for the kernel adds two products
in 16 bits. Each row is rounded by its own largest number, so that its company changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.engine.direct import Direct

_LEVELS = 63
"""Steps of a state on each side of zero."""


class EightBit(Direct):
    """(B, in) → (B, out), roughly."""

    def __init__(self, weight: Tensor) -> None:
        """Take (out, in) weights; each row of them is rounded by a scale of its own."""
        super().__init__()
        wide = weight.detach().float()
        scales = (wide.abs().amax(1) / 127).clamp_(min=torch.finfo(torch.float32).tiny)
        zeros = torch.zeros(len(wide), dtype=torch.int64)
        rounded = torch.quantize_per_channel(wide, scales, zeros, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.nbytes = weight.numel() + 12 * len(weight)

    @staticmethod
    def multiplies() -> bool:
        """Whether there is such a kernel."""
        return "fbgemm" in torch.backends.quantized.supported_engines

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) float32 → (B, out) float32."""
        unit = x.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / _LEVELS
        found: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / unit, 1.0, _LEVELS + 1, self._packed
        )
        return found.mul_(unit)
