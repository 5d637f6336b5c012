"""Linear layers that read the same input, as one product: q, k, v, and gate, up.

A step of a few rows is bound by the number of calls; one wide 4-bit product costs little more than
the narrowest of its parts. The weights are the parts' own, bit for bit, side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.module import HooklessModule
from models.engine.layers.multi_lora import MultiLoraLinear
from models.engine.layers.nf4 import can_concatenate, concatenate

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class FusedLinear(nn.Module):
    """One product whose columns belong to several layers."""

    def __init__(self, whole: nn.Module, widths: Sequence[int]) -> None:
        """Take the product and the number of columns of each part."""
        super().__init__()
        self.whole = whole
        self.widths = list(widths)
        self._left: dict[int, tuple[Tensor, Tensor]] = {}
        """The parts that are yet to be asked for, each beside what it was computed from."""

    def part(self, number: int, x: Tensor) -> Tensor:
        """Return one part's columns; the first part that is asked for computes all."""
        of, found = self._left.pop(number, (None, x))
        if of is not x:
            parts = torch.split_with_sizes(self.whole(x), self.widths, -1)
            self._left.update((n, (x, part)) for n, part in enumerate(parts) if n != number)
            found = parts[number]
        return found


class FusedOutput(HooklessModule):
    """Stands where one of the joined layers stood."""

    def __init__(self, joined: FusedLinear, number: int) -> None:
        """Take the product, as a module of the first part alone, so that it is listed once."""
        super().__init__()
        if number == 0:
            self.joined = joined
        self._part = joined.part
        self._number = number

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) → (B, T, out of this part)."""
        return self._part(self._number, x)


def fuse_linears(model: nn.Module) -> None:
    """Join what can be joined, in place; a layer whose kind is not known stays as it is."""
    for parent in list(model.modules()):
        for names in SIBLINGS:
            layers: list[Any] = [getattr(parent, name, None) for name in names]
            bases: list[Any] = [
                layer.base if isinstance(layer, MultiLoraLinear) else layer for layer in layers
            ]
            if (whole := _side_by_side(bases)) is None:
                continue
            stacked = [layer for layer in layers if isinstance(layer, MultiLoraLinear)]
            if stacked:
                a, b = _blocks(layers, stacked[0])
                whole = MultiLoraLinear(whole, a, b, stacked[0].carried, len(layers))
            joined = FusedLinear(whole, [base.out_features for base in bases])
            for number, name in enumerate(names):
                setattr(parent, name, FusedOutput(joined, number))


def _side_by_side(layers: Sequence[Any]) -> nn.Module | None:
    """Return one linear layer with the outputs of all, or None where that cannot be."""
    if any(layer is None for layer in layers) or len({layer.bias is None for layer in layers}) > 1:
        return None
    if can_concatenate(layers):
        whole: nn.Module = concatenate(layers)
        return whole
    if {type(layer) for layer in layers} != {nn.Linear}:
        return None
    width, height = layers[0].in_features, sum(layer.out_features for layer in layers)
    dense = nn.Linear(width, height, bias=layers[0].bias is not None, device="meta")
    dense.weight = _frozen(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        dense.bias = _frozen(torch.cat([layer.bias for layer in layers]))
    return dense.eval()


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)


def _blocks(layers: Sequence[Any], some: MultiLoraLinear) -> tuple[Tensor, Tensor]:
    """Return the stacks of all parts: A side by side, B in blocks on the diagonal."""
    a, b = [], []
    for layer in layers:
        if isinstance(layer, MultiLoraLinear):
            a.append(layer.lora_a)
            b.append(layer.lora_b)
        else:  # no adapter on this part
            a.append(torch.zeros_like(some.lora_a))
            b.append(some.lora_b.new_zeros(some.lora_b.shape[0], layer.out_features))
    blocks: Tensor = torch.block_diag(*b)  # type: ignore[no-untyped-call]
    return torch.cat([part.T for part in a]).T, blocks.T.contiguous().T
