"""A group's adapters as one stacked LoRA: rows of one batch, each under its own adapter.

    y = base(x) + ((x · A) ∘ carried[row]) · B

A and B hold the adapters of the group one after the other. A row computes the inner values of all
of them and keeps those of the one that it carries, times its strength: no gather, nothing that
depends on the batch but one small tensor, and a base row adds exact zeros. Where float16 tells the
base and B, and the base's form has room, B stands beside it, and one product takes x and the inner
values together: it costs less than two, but more than the base's alone. PEFT loads the adapters
(key names, rank and alpha patterns, rsLoRA); its own mixed batch is not used at run time: it
indexes by Python lists in every layer, and leaks its hooks when a run is aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.module import HooklessModule
from models.engine.layers.packed_matmul import PackedMatrix, pack_matrix
from models.errors import WeightsError


class ActiveAdapters:
    """Which adapter the rows of the coming pass carry, and how strongly; shared by all layers."""

    def __init__(self, adapters: int, rank: int, like: Tensor) -> None:
        """Take the number of adapters, the rank that all are padded to, and a tensor like them."""
        self.adapters = adapters
        self.rank = rank
        self._like = like
        self._weights: dict[int, Tensor] = {}
        self.select([(0, 1.0)])

    @property
    def dtype(self) -> torch.dtype:
        """What the layers compute in."""
        return self._like.dtype

    def select(self, rows: Sequence[tuple[int, float]]) -> None:
        """Say what each row carries: (adapter, strength); adapter 0 is the base."""
        self.use(self.chosen(rows))
        self.nothing = not any(adapter and strength for adapter, strength in rows)

    def chosen(self, rows: Sequence[tuple[int, float]]) -> Tensor:
        """Return (B, 1, S · r): each row's strength in the columns of its adapter, else zeros."""
        strengths = [[s if a == n + 1 else 0.0 for n in range(self.adapters)] for a, s in rows]
        return self._like.new_tensor(strengths).repeat_interleave(self.rank, -1)[:, None]

    def use(self, weights: Tensor) -> None:
        """Read the rows' weights from a tensor, which may change between passes."""
        self._weights = {1: weights}
        self.nothing = False

    def weights(self, products: int) -> Tensor:
        """Return (B, 1, products · S · r), for that many products side by side."""
        if products not in self._weights:
            self._weights[products] = self._weights[1].repeat(1, 1, products)
        return self._weights[products]


class MultiLoraLinear(HooklessModule):
    """A linear layer and the low-rank updates of all adapters, padded to one rank."""

    lora_a: Tensor
    """(in, products · S · r)."""
    lora_b: Tensor
    """(products · S · r, out): scaling folded in."""

    def __init__(
        self, base: nn.Module, a: Tensor, b: Tensor, carried: ActiveAdapters, products: int = 1
    ) -> None:
        """Take the layer that is updated, its stacks, and what the rows carry."""
        super().__init__()
        self.base = base
        self.register_buffer("lora_a", a, persistent=False)
        self.register_buffer("lora_b", b, persistent=False)
        self.carried = carried
        self.products = products
        self.held: tuple[PackedMatrix, PackedMatrix | None] | None = None
        """A and B; B is None where its columns stand beside the base's."""

    @property
    def nbytes(self) -> int:
        """What the stacks take."""
        a, b = self.held or (self.lora_a, self.lora_b)
        if b is None:
            assert isinstance(self.base, DequantizedLinear)
            return a.nbytes + self.base.more_bytes
        return a.nbytes + b.nbytes

    @property
    def read_bytes(self) -> int:
        """What a step reads of held stacks; those of others are buffers."""
        return sum(one.read_bytes for one in self.held or () if one)

    def pack(self, beside: bool = True) -> None:
        """Hold the stacks, once and for good, in the form that a CPU's products read.

        Args:
            beside: B may stand beside the base, which no other model can share from then on.
        """
        extended = (
            beside and isinstance(self.base, DequantizedLinear) and self.base.extend(self.lora_b.T)
        )
        self.held = pack_matrix(self.lora_a.T), None if extended else pack_matrix(self.lora_b.T)
        del self.lora_a, self.lora_b

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) → (B, T, out)."""
        a, b = self.held or (None, None)
        if a and not b:
            return self._at_once(x, a)
        y: Tensor = self.base(x)
        if self.carried.nothing:
            return y
        inner = a(x) if a else x @ self.lora_a
        inner.mul_(self.carried.weights(self.products))
        return y.add_(b(inner) if b else inner @ self.lora_b)

    def _at_once(self, x: Tensor, a: PackedMatrix) -> Tensor:
        """Return what the base and B, side by side, make of x and the inner values."""
        weights = self.carried.weights(self.products)
        zeros = self.carried.nothing
        inner = weights.expand(*x.shape[:-1], -1) if zeros else a(x).mul_(weights)
        found: Tensor = self.base(torch.cat([x, inner], -1))
        return found


def lora_layers(model: nn.Module) -> list[MultiLoraLinear]:
    """Return the layers of a model that adapters update."""
    return [layer for layer in model.modules() if isinstance(layer, MultiLoraLinear)]


def stack_adapters(model: nn.Module, adapters: Sequence[str], dtype: torch.dtype) -> ActiveAdapters:
    """Replace PEFT's LoRA layers in `model` by stacked ones, in place.

    Args:
        model: the base inside a PeftModel.
        adapters: adapter names in the order of the stack; the first becomes number 1.
        dtype: of the stacks; the dtype that the base computes in.

    Raises:
        WeightsError: an adapter is not plain LoRA on linear layers.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    layers: dict[str, Any] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, ModulesToSaveWrapper):
            raise WeightsError(f"An adapter replaces {name} whole; only plain LoRA is served.")
        if isinstance(layer, LoraLayer):
            if layer.lora_embedding_A or layer.lora_variant or any(layer.lora_bias.values()):
                raise WeightsError(f"The adapter on {name} is not plain LoRA on a linear layer.")
            layers[name] = layer
    rank = max((max(layer.r.values()) for layer in layers.values()), default=0)
    like = torch.empty(0, dtype=dtype, device=next(model.parameters()).device)
    carried = ActiveAdapters(len(adapters), rank, like)
    for name, layer in layers.items():
        a, b = _stacks(layer, adapters, rank, dtype)
        model.set_submodule(name, MultiLoraLinear(layer.get_base_layer(), a, b, carried))
    return carried


def _stacks(
    layer: Any, adapters: Sequence[str], rank: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    some = next(iter(layer.lora_A))
    a = layer.lora_A[some].weight.new_zeros(len(adapters), rank, layer.in_features)
    b = layer.lora_B[some].weight.new_zeros(layer.out_features, len(adapters), rank)
    for n, name in enumerate(adapters):
        if name in layer.lora_A:  # else this adapter leaves the layer alone
            a[n, : layer.r[name]] = layer.lora_A[name].weight.detach()
            b[:, n, : layer.r[name]] = layer.lora_B[name].weight.detach() * layer.scaling[name]
    # Held as their transposes, which the products read fastest.
    return a.flatten(0, 1).to(dtype).T, b.flatten(1).to(dtype).T
