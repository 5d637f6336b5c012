"""A group's adapters as one stacked LoRA: rows of one batch, each under its own adapter.

    y = base(x) + (x · A[row]) · B[row]

Row r of the batch carries adapter `rows[r]`; entry 0 of the stack is zeros, the base itself. PEFT
loads the adapters (key names, rank and alpha patterns, rsLoRA); its own mixed batch is not used at
run time: it indexes by Python lists in every layer, and leaks its hooks when a run is aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.errors import WeightsError


class StackedLora(nn.Module):
    """A linear layer and the low-rank updates of all adapters, padded to the largest rank."""

    stack_a: Tensor
    """(S, in, r): entry 0 is zeros."""
    stack_b: Tensor
    """(S, r, out): scaling folded in; entry 0 is zeros."""

    def __init__(self, base: nn.Module, a: Tensor, b: Tensor) -> None:
        """Take the layer that is updated and its stacks."""
        super().__init__()
        self.base = base
        self.register_buffer("stack_a", a, persistent=False)
        self.register_buffer("stack_b", b, persistent=False)
        self.a, self.b = a[:1], b[:1]

    def select(self, rows: Tensor) -> None:
        """Say which adapter each row of the coming batches carries: (B,) int64."""
        self.a, self.b = self.stack_a[rows], self.stack_b[rows]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) → (B, T, out)."""
        return torch.baddbmm(self.base(x), torch.bmm(x, self.a), self.b)


def fold(model: nn.Module, adapters: Sequence[str], dtype: torch.dtype) -> list[StackedLora]:
    """Replace PEFT's LoRA layers in `model` by stacked ones, in place.

    Args:
        model: the base inside a PeftModel.
        adapters: adapter names in the order of the stack; the first becomes entry 1.
        dtype: of the stacks; the dtype that the base computes in.

    Raises:
        WeightsError: an adapter is not plain LoRA on linear layers.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    stacked = []
    for name, layer in list(model.named_modules()):
        if isinstance(layer, ModulesToSaveWrapper):
            raise WeightsError(f"An adapter replaces {name} whole; only plain LoRA is served.")
        if isinstance(layer, LoraLayer):
            if layer.lora_embedding_A or layer.lora_variant or any(layer.lora_bias.values()):
                raise WeightsError(f"The adapter on {name} is not plain LoRA on a linear layer.")
            made = StackedLora(layer.get_base_layer(), *_stacks(layer, adapters, dtype))
            model.set_submodule(name, made)
            stacked.append(made)
    return stacked


def _stacks(layer: Any, adapters: Sequence[str], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rank = max(layer.r.values())
    some = next(iter(layer.lora_A))
    a = [layer.lora_A[some].weight.new_zeros(layer.in_features, rank)]
    b = [layer.lora_B[some].weight.new_zeros(rank, layer.out_features)]
    for name in adapters:
        if name not in layer.lora_A:  # this adapter leaves the layer alone
            a.append(a[0])
            b.append(b[0])
            continue
        pad = rank - layer.r[name]
        a.append(functional.pad(layer.lora_A[name].weight.detach(), (0, 0, 0, pad)).T)
        scaled = layer.lora_B[name].weight.detach() * layer.scaling[name]
        b.append(functional.pad(scaled, (0, pad)).T)
    return (
        torch.stack(a).to(dtype).contiguous(),
        torch.stack(b).to(dtype).contiguous(),
    )
