"""Several LoRA adapters in one layer: each row of a batch runs under its own adapter.

    y = base(x) + ((x · A) ∘ scale[row]) · B

A and B are the matrices of all adapters of a base, concatenated along the rank. For every row the
inner values x · A of all adapters are computed, and multiplied by its own adapter's scale or by 0:
there is no gather, only one small tensor depends on the batch, and a row of the base adds exact
zeros. If B fits float16 and takes no more memory there, its columns are appended to the base's
matrix, and one matmul takes x and the inner values together: it costs less than two matmuls, but
more than the base's alone.

PEFT loads the adapters (key names, rank and alpha patterns, rsLoRA). Its own mixed batch is not
used: it indexes by Python lists in every layer, and leaks its hooks when a run is aborted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.interface import AdapterScale
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.module import HooklessModule
from models.engine.layers.packed_matmul import PackedMatrix, pack_matrix
from models.errors import WeightsError


class RowScales:
    """The adapter scales of each row in one forward pass."""

    def __init__(self, scales: Tensor, all_base: bool = False) -> None:
        """Hold (B, 1, S · r) scales; `all_base` says whether every row is the base alone."""
        self.all_base = all_base
        self._scales = {1: scales}

    def of_products(self, products: int) -> Tensor:
        """Return the scales for `products` fused layers: (B, 1, products · S · r)."""
        if products not in self._scales:
            self._scales[products] = self._scales[1].repeat(1, 1, products)
        return self._scales[products]


class ActiveAdapters:
    """The adapters of a model, and the row scales of the current forward pass.

    `run` sets the scales for the pass alone: transformers' layers cannot be handed an argument.
    """

    def __init__(self, count: int, rank: int, like: Tensor) -> None:
        """Describe the adapters.

        Args:
            count: number of adapters, S.
            rank: r, the rank that all adapters are padded to.
            like: a tensor of the dtype and on the device that the layers compute in.
        """
        self.count = count
        self.rank = rank
        self._like = like
        self._rows: RowScales | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the layers compute in."""
        return self._like.dtype

    @property
    def rows(self) -> RowScales:
        """The row scales of the current forward pass."""
        if self._rows is None:
            raise RuntimeError("A model with adapters computes inside ActiveAdapters.run only.")
        return self._rows

    def run(
        self, model: Callable[..., Any], rows: Sequence[AdapterScale] | Tensor, **inputs: Any
    ) -> Any:
        """Run a model with each row under its own adapter, and return what it returns.

        Args:
            model: the model, or a part of it, whose layers hold these adapters.
            rows: adapter and scale of each row; or the tensor that `row_scales` makes of them,
                which may change between the replays of a CUDA graph.
            **inputs: inputs of the model.
        """
        if isinstance(rows, Tensor):
            self._rows = RowScales(rows)
        else:
            all_base = not any(row.adapter and row.scale for row in rows)
            self._rows = RowScales(self.row_scales(rows), all_base)
        try:
            return model(**inputs)
        finally:
            self._rows = None

    def row_scales(self, rows: Sequence[AdapterScale]) -> Tensor:
        """Return (B, 1, S · r): each row's scale in the columns of its adapter, else zeros."""
        scales = [
            [row.scale if row.adapter == n + 1 else 0.0 for n in range(self.count)] for row in rows
        ]
        return self._like.new_tensor(scales).repeat_interleave(self.rank, -1)[:, None]


class MultiLoraLinear(HooklessModule):
    """A linear layer and the low-rank updates of all adapters, padded to one rank."""

    lora_a: Tensor
    """(in, products · S · r)."""
    lora_b: Tensor
    """(products · S · r, out), with each adapter's scaling multiplied in."""

    def __init__(
        self, base: nn.Module, a: Tensor, b: Tensor, active: ActiveAdapters, products: int = 1
    ) -> None:
        """Hold a base layer of `products` fused layers, and the stacked adapters' matrices."""
        super().__init__()
        self.base = base
        self.register_buffer("lora_a", a, persistent=False)
        self.register_buffer("lora_b", b, persistent=False)
        self.active = active
        self.products = products
        self.packed: tuple[PackedMatrix, PackedMatrix | None] | None = None
        """A and B once they are packed; B is None if it was appended to the base's matrix."""

    @property
    def nbytes(self) -> int:
        """Bytes of the adapters' matrices."""
        a, b = self.packed or (self.lora_a, self.lora_b)
        if b is None:
            assert isinstance(self.base, DequantizedLinear)
            return a.nbytes + self.base.added_bytes
        return a.nbytes + b.nbytes

    @property
    def read_bytes(self) -> int:
        """Bytes of packed matrices that a step reads; unpacked ones count as buffers."""
        return sum(matrix.read_bytes for matrix in self.packed or () if matrix)

    def pack(self, into_base: bool = True) -> None:
        """Pack A and B for the CPU's matmul kernels; they cannot change afterwards.

        Args:
            into_base: whether B may be appended to the base's matrix, which nobody else can share
                then.
        """
        base = self.base
        extended = into_base and isinstance(base, DequantizedLinear) and base.extend(self.lora_b.T)
        self.packed = pack_matrix(self.lora_a.T), None if extended else pack_matrix(self.lora_b.T)
        del self.lora_a, self.lora_b

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) → (B, T, out)."""
        a, b = self.packed or (None, None)
        if a and not b:
            return self._one_product(x, a)
        y: Tensor = self.base(x)
        rows = self.active.rows
        if rows.all_base:
            return y
        inner = a(x) if a else x @ self.lora_a
        inner.mul_(rows.of_products(self.products))
        return y.add_(b(inner) if b else inner @ self.lora_b)

    def _one_product(self, x: Tensor, a: PackedMatrix) -> Tensor:
        """Return the layer's output if B's columns were appended to the base's matrix."""
        rows = self.active.rows
        scales = rows.of_products(self.products)
        inner = scales.expand(*x.shape[:-1], -1) if rows.all_base else a(x).mul_(scales)
        y: Tensor = self.base(torch.cat([x, inner], -1))
        return y


def lora_layers(model: nn.Module) -> list[MultiLoraLinear]:
    """Return the layers of a model that adapters update."""
    return [layer for layer in model.modules() if isinstance(layer, MultiLoraLinear)]


def stack_adapters(model: nn.Module, names: Sequence[str], dtype: torch.dtype) -> ActiveAdapters:
    """Replace PEFT's LoRA layers by layers that hold all adapters, in place.

    Args:
        model: the base inside a PeftModel.
        names: the adapters' names; the first becomes number 1.
        dtype: dtype of the adapters' matrices; the one that the base computes in.

    Raises:
        WeightsError: an adapter is not plain LoRA on linear layers.
    """
    from peft.tuners.lora import LoraLayer
    from peft.utils import ModulesToSaveWrapper

    layers: dict[str, Any] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, ModulesToSaveWrapper):
            raise WeightsError(f"An adapter replaces {path} whole; only plain LoRA is served.")
        if isinstance(layer, LoraLayer):
            if layer.lora_embedding_A or layer.lora_variant or any(layer.lora_bias.values()):
                raise WeightsError(f"The adapter on {path} is not plain LoRA on a linear layer.")
            layers[path] = layer
    rank = max((max(layer.r.values()) for layer in layers.values()), default=0)
    like = torch.empty(0, dtype=dtype, device=next(model.parameters()).device)
    active = ActiveAdapters(len(names), rank, like)
    for path, layer in layers.items():
        a, b = _stacks(layer, names, rank, dtype)
        model.set_submodule(path, MultiLoraLinear(layer.get_base_layer(), a, b, active))
    return active


def _stacks(
    layer: Any, names: Sequence[str], rank: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return A, (in, S · r), and B, (S · r, out), of one layer's adapters."""
    any_name = next(iter(layer.lora_A))
    a = layer.lora_A[any_name].weight.new_zeros(len(names), rank, layer.in_features)
    b = layer.lora_B[any_name].weight.new_zeros(layer.out_features, len(names), rank)
    for n, name in enumerate(names):
        if name in layer.lora_A:  # else this adapter leaves the layer alone
            a[n, : layer.r[name]] = layer.lora_A[name].weight.detach()
            b[:, n, : layer.r[name]] = layer.lora_B[name].weight.detach() * layer.scaling[name]
    # Stored as their transposes, which matmuls read fastest.
    return a.flatten(0, 1).to(dtype).T, b.flatten(1).to(dtype).T
