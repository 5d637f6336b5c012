"""Linear layers that read the same input, fused into one matmul: q, k, v, and gate, up.

The time of a step of a few rows depends mostly on the number of calls; one wide 4-bit matmul costs
little more than the narrowest of its parts. The weights are the parts' own, concatenated bit for
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.module import HooklessModule
from models.engine.layers.multi_lora import ActiveAdapters, MultiLoraLinear
from models.engine.layers.nf4 import can_concatenate, concatenate
from models.errors import WeightsError

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers that transformers' models call one after the other, on the same input."""


class FusedLinear(nn.Module):
    """One matmul whose output columns belong to several layers."""

    def __init__(self, product: nn.Module, widths: Sequence[int]) -> None:
        """Hold the fused matmul; `widths` are the numbers of output columns of the layers."""
        super().__init__()
        self.product = product
        self.widths = list(widths)
        self._outputs: list[Tensor] = []
        """Outputs of the layers that are yet to be called in this pass."""

    def output(self, number: int, x: Tensor) -> Tensor:
        """Return one layer's output; the first layer computes those of all.

        Raises:
            WeightsError: the model calls the layers in another order.
        """
        if number == 0:
            self._outputs = list(torch.split_with_sizes(self.product(x), self.widths, -1))
        if len(self.widths) - len(self._outputs) != number:
            raise WeightsError("This model calls q, k, v or gate, up in an order not served here.")
        return self._outputs.pop(0)


class FusedOutput(HooklessModule):
    """Replaces one of the fused layers in the model, and returns its output."""

    def __init__(self, fused: FusedLinear, number: int) -> None:
        """Replace layer `number`; only the first holds the matmul, so that it is listed once."""
        super().__init__()
        if number == 0:
            self.fused = fused
        self._output = fused.output
        self._number = number

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) → (B, T, out of this layer)."""
        return self._output(self._number, x)


def fuse_linears(model: nn.Module) -> None:
    """Fuse sibling layers of known kinds, in place; all others stay as they are."""
    for parent in list(model.modules()):
        for names in SIBLINGS:
            layers: list[Any] = [getattr(parent, name, None) for name in names]
            bases: list[Any] = [
                layer.base if isinstance(layer, MultiLoraLinear) else layer for layer in layers
            ]
            if (product := _side_by_side(bases)) is None:
                continue
            tuned = [layer for layer in layers if isinstance(layer, MultiLoraLinear)]
            if tuned:
                a, b = _block_stacks(layers, tuned[0])
                product = MultiLoraLinear(
                    product, a, b, tuned[0].active, len(layers), *_gains(layers, tuned[0].active)
                )
            fused = FusedLinear(product, [base.out_features for base in bases])
            for number, name in enumerate(names):
                setattr(parent, name, FusedOutput(fused, number))


def _side_by_side(layers: Sequence[Any]) -> nn.Module | None:
    """Concatenate layers into one with the outputs of all; None if that is impossible."""
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return None
    if len({layer.bias is None for layer in layers}) > 1:
        return None
    if can_concatenate(layers):
        product: nn.Module = concatenate(layers)
        return product
    if {type(layer) for layer in layers} != {nn.Linear}:
        return None
    width, height = layers[0].in_features, sum(layer.out_features for layer in layers)
    linear = nn.Linear(width, height, bias=layers[0].bias is not None, device="meta")
    linear.weight = _frozen(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        linear.bias = _frozen(torch.cat([layer.bias for layer in layers]))
    return linear.eval()


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)


def _block_stacks(layers: Sequence[Any], tuned: MultiLoraLinear) -> tuple[Tensor, Tensor]:
    """Return the adapters' matrices of all layers: A concatenated, B block-diagonal."""
    a, b = [], []
    for layer in layers:
        if isinstance(layer, MultiLoraLinear):
            a.append(layer.lora_a)
            b.append(layer.lora_b)
        else:  # no adapter on this layer
            a.append(torch.zeros_like(tuned.lora_a))
            b.append(tuned.lora_b.new_zeros(tuned.lora_b.shape[0], layer.out_features))
    blocks: Tensor = torch.block_diag(*b)  # type: ignore[no-untyped-call]
    return torch.cat([stack.T for stack in a]).T, blocks.T.contiguous().T


def _gains(layers: Sequence[Any], active: ActiveAdapters) -> tuple[Tensor | None, Tensor | None]:
    """Return the DoRA gains and the biases of all layers side by side; None if none is DoRA."""
    if all(getattr(layer, "gains", None) is None for layer in layers):
        return None, None
    bases: list[Any] = [
        layer.base if isinstance(layer, MultiLoraLinear) else layer for layer in layers
    ]
    zeros = active.like.new_zeros
    owns = [getattr(layer, "gains", None) for layer in layers]
    gains = [
        zeros(active.count, base.out_features) if own is None else own
        for own, base in zip(owns, bases, strict=True)
    ]
    biases = [base.bias.detach().to(active.dtype) for base in bases if base.bias is not None]
    return torch.cat(gains, 1), torch.cat(biases) if biases else None
