"""Several LoRA adapters in one layer: each row of a batch runs under its own adapter.

    y = base(x) + ((x · A) ∘ scale[row]) · B

A and B are the matrices of all adapters of a base, concatenated along the rank. For every row the
inner values x · A of all adapters are computed, and multiplied by its own adapter's scale or by 0:
there is no gather, only one small tensor depends on the batch, and a row of the base adds exact
zeros. If B fits float16 and takes no more memory there, its columns are appended to the base's
matrix, and one matmul takes x and the inner values together: it costs less than two matmuls, but
more than the base's alone.

DoRA multiplies the rows of W + B · A by m / |W + B · A|, a factor g for each output. B takes its
factor at load; what is left is (g − 1) · W · x, which is added to the rows of that adapter.

PEFT's own mixed batch is not used: it indexes by Python lists in every layer, and leaks its hooks
when a run is aborted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.interface import AdapterScale
from models.engine.layers.adapter import Adapter, LoraUpdate
from models.engine.layers.dequantized import DequantizedLinear, weight_values
from models.engine.layers.head_changes import HeadChange
from models.engine.layers.module import HooklessModule
from models.engine.layers.packed_matmul import PackedMatrix, pack_matrix
from models.errors import WeightsError


class RowScales:
    """The adapter scales of each row in one forward pass."""

    def __init__(self, scales: Tensor, rank: int, all_base: bool = False) -> None:
        """Hold (B, 1, S · r) scales; `all_base` says whether every row is the base alone."""
        self.scales = scales
        self.all_base = all_base
        self._rank = rank
        self._repeated = {1: scales}

    @property
    def of_adapters(self) -> Tensor:
        """The scale of each adapter in each row: (B, 1, S); 0 for all but the row's own."""
        return self.scales[..., :: self._rank]

    def of_products(self, products: int) -> Tensor:
        """Return the scales for `products` fused layers: (B, 1, products · S · r)."""
        if products not in self._repeated:
            self._repeated[products] = self.scales.repeat(1, 1, products)
        return self._repeated[products]


class ActiveAdapters:
    """The adapters of a model, and the row scales of the current forward pass.

    `run` sets the scales for the pass alone: transformers' layers cannot be handed an argument.
    """

    def __init__(self, count: int, rank: int, like: Tensor) -> None:
        """Describe the adapters.

        Args:
            count: number of adapters, S.
            rank: r, the rank that all adapters are padded to; at least 1.
            like: a tensor of the dtype and on the device that the layers compute in.
        """
        self.count = count
        self.rank = rank
        self.head_changes: list[HeadChange] = []
        """What the adapters change in the output head."""
        self.like = like
        """A tensor of the dtype and on the device that the layers compute in."""
        self._rows: RowScales | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the layers compute in."""
        return self.like.dtype

    @property
    def rows(self) -> RowScales:
        """The row scales of the current forward pass."""
        if self._rows is None:
            raise RuntimeError("A model with adapters computes inside ActiveAdapters.run only.")
        return self._rows

    def run(
        self, model: Callable[..., Any], rows: Sequence[AdapterScale] | RowScales, **inputs: Any
    ) -> Any:
        """Run a model with each row under its own adapter, and return what it returns.

        Args:
            model: the model, or a part of it, whose layers hold these adapters.
            rows: adapter and scale of each row, or what `scales_of` makes of them.
            **inputs: inputs of the model.
        """
        self._rows = rows if isinstance(rows, RowScales) else self.scales_of(rows)
        try:
            return model(**inputs)
        finally:
            self._rows = None

    def scales_of(self, rows: Sequence[AdapterScale] | Tensor) -> RowScales:
        """Return the scales of rows.

        Args:
            rows: adapter and scale of each row; or the tensor that `row_scales` makes of them,
                which may change between the replays of a CUDA graph.
        """
        if isinstance(rows, Tensor):
            return RowScales(rows, self.rank)
        all_base = not any(row.adapter and row.scale for row in rows)
        return RowScales(self.row_scales(rows), self.rank, all_base)

    def row_scales(self, rows: Sequence[AdapterScale]) -> Tensor:
        """Return (B, 1, S · r): each row's scale in the columns of its adapter, else zeros."""
        scales = [
            [row.scale if row.adapter == n + 1 else 0.0 for n in range(self.count)] for row in rows
        ]
        return self.like.new_tensor(scales).repeat_interleave(self.rank, -1)[:, None]


class MultiLoraLinear(HooklessModule):
    """A linear layer and the low-rank updates of all adapters, padded to one rank."""

    lora_a: Tensor
    """(in, products · S · r)."""
    lora_b: Tensor
    """(products · S · r, out), with each adapter's scaling multiplied in."""
    gains: Tensor | None
    """(S, out), the g − 1 of DoRA; zeros for a plain adapter, None if all are plain."""
    bias: Tensor | None
    """(out,), the base's bias, which DoRA does not scale; None if no adapter is DoRA."""

    def __init__(
        self,
        base: nn.Module,
        a: Tensor,
        b: Tensor,
        active: ActiveAdapters,
        products: int = 1,
        gains: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        """Hold a base layer of `products` fused layers, and the stacked adapters' matrices."""
        super().__init__()
        self.base = base
        self.register_buffer("lora_a", a, persistent=False)
        self.register_buffer("lora_b", b, persistent=False)
        self.register_buffer("gains", gains, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
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
        extended = (
            into_base
            and self.gains is None  # which scales the base's output alone
            and isinstance(base, DequantizedLinear)
            and base.extend(self.lora_b.T)
        )
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
        if self.gains is not None:
            product = y if self.bias is None else y - self.bias
            y = torch.addcmul(y, product, rows.of_adapters @ self.gains)
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


def stack_adapters(model: Any, adapters: Sequence[Adapter], dtype: torch.dtype) -> ActiveAdapters:
    """Replace the linear layers that adapters update by layers that hold all updates, in place.

    Args:
        model: the base, a causal language model. Its output head stays; see `tune_embeddings`.
        adapters: the first becomes number 1. Their paths and shapes must fit the base.
        dtype: dtype of the adapters' matrices; the one that the base computes in.

    Raises:
        WeightsError: an update is not finite in that dtype: its zero share in a row of the base
            would be no number.
    """
    head = model.get_output_embeddings()
    layers: dict[str, Any] = {
        path: layer
        for path in dict.fromkeys(path for adapter in adapters for path in adapter.lora)
        if (layer := model.get_submodule(path)) is not head
    }
    ranks = [len(a.lora[path].a) for a in adapters for path in layers if path in a.lora]
    like = torch.empty(0, dtype=dtype, device=next(model.parameters()).device)
    active = ActiveAdapters(len(adapters), max(ranks, default=1), like)
    for path, layer in layers.items():
        updates = [adapter.lora.get(path) for adapter in adapters]
        model.set_submodule(path, _multi_lora(path, layer, updates, active))
    return active


def _multi_lora(
    path: str, layer: Any, updates: Sequence[LoraUpdate | None], active: ActiveAdapters
) -> MultiLoraLinear:
    """Return a layer with one update for each adapter, or None for one that leaves it alone."""
    some = next(update for update in updates if update)
    width, height, like = some.a.shape[1], some.b.shape[0], active.like
    a = torch.zeros(len(updates), active.rank, width, device=like.device)
    b = torch.zeros(height, len(updates), active.rank, device=like.device)
    gains = torch.zeros(len(updates), height, device=like.device)
    for n, update in enumerate(updates):
        if update is None:
            continue
        rank = len(update.a)
        a[n, :rank] = update.a
        b[:, n, :rank] = update.scaling * update.b.float()
        if update.magnitude is not None:
            tuned = weight_values(layer).float() + b[:, n, :rank] @ a[n, :rank]
            lengths = torch.linalg.vector_norm(tuned, dim=1)
            factors = torch.where(lengths > 0, update.magnitude.to(lengths) / lengths, 1.0)
            gains[n] = factors - 1
            b[:, n, :rank] *= factors[:, None]
    if not all(part.to(like.dtype).isfinite().all() for part in (a, b, gains)):
        raise WeightsError(f"An adapter's update of {path} is not finite in {like.dtype}.")
    scales_base = any(update and update.magnitude is not None for update in updates)
    bias = layer.bias.detach().to(like.dtype) if scales_base and layer.bias is not None else None
    return MultiLoraLinear(
        layer,
        # Stored as their transposes, which matmuls read fastest.
        a.flatten(0, 1).to(like.dtype).T,
        b.flatten(1).to(like.dtype).T,
        active,
        gains=gains.to(like.dtype) if scales_base else None,
        bias=bias,
    )
