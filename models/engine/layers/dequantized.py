"""4-bit values held unpacked, for processors that multiply neither 4 bits nor bf16.

bitsandbytes' product on a CPU needs AVX512-BF16, which most laptops lack; without it every call
unpacks the whole matrix again. There a small model's values are unpacked once. They are the same
values (but float16 rounds those below 2⁻¹⁷), and the products, in float32, are more exact.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers import packed_matmul
from models.engine.layers.module import HooklessModule
from models.engine.layers.nf4 import has_nf4_matmul
from models.engine.layers.q8_0 import row_chunks

_PART = 1024
"""Rows of the head that are widened at a time: they stay in the cache."""
MOST = 4_000_000_000
"""Bytes that a model's linear layers may take so."""


class DequantizedLinear(HooklessModule):
    """A linear layer for states in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take (out, in) weights of any float type."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        parts = [weight] if bias is None else [weight, bias.detach()]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.contiguous().view(torch.uint8).numpy().data)
        self.digest: tuple[Any, ...] = (len(parts), weight.shape, weight.dtype, digest.digest())
        """Equal digests, equal weights; what is opaque cannot be compared."""
        self.held = packed_matmul.pack_matrix(*[part.float() for part in parts])
        self.more_bytes = 0
        """What columns take that were put beside its own."""

    def extend(self, more: Tensor) -> bool:
        """Put more columns, (out, more), beside its own; states are to be as much longer.

        Returns:
            Whether float16 tells them, and they take no more here than apart. Else it stays as it
            was.
        """
        columns = self.in_features + more.shape[1]
        grown = packed_matmul.packed_bytes(self.out_features, columns) - self.held.nbytes
        if not isinstance(self.held, packed_matmul.Fp16Matrix) or grown > more.nbytes:
            return False
        if (held := self.held.beside(more)) is None:
            return False
        self.held, self.more_bytes, self.in_features = held, grown, columns
        self.digest = (id(self),)  # equal to no other
        return True

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return self.held(x)


class Float32Embedding(HooklessModule):
    """An embedding that stays as it is stored, and is told in float32."""

    def __init__(self, stored: nn.Module) -> None:
        """Take the model's own."""
        super().__init__()
        self.stored = stored
        self.weight = stored.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d)."""
        found: Tensor = self.stored(ids)
        return found.float()


class Float32Head(HooklessModule):
    """An output head that stays as it is stored, and is multiplied in float32."""

    def __init__(self, stored: Any) -> None:
        """Take the model's own."""
        super().__init__()
        self.stored = stored  # what it holds is counted, and asked where it is
        self.weight = stored.weight
        self.bias = stored.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V); each row is the same to the bit in any company."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        if len(rows) == 1:  # one row alone would be added up in another order
            return self.forward(hidden.expand(2, *hidden.shape))[0]
        logits = rows.new_empty(len(rows), len(self.weight))
        parts = zip(torch.split(logits, _PART, 1), row_chunks(self.weight, _PART), strict=True)
        for columns, part in parts:
            columns.copy_(packed_matmul.product(rows, part.float()))
        if self.bias is not None:
            logits += self.bias
        return logits.view(*hidden.shape[:-1], -1)


def needs_dequantized(model: nn.Module, most: int = MOST) -> bool:
    """Whether this processor would have to unpack or emulate, and the model is small enough."""
    if next(model.parameters()).device.type != "cpu" or has_nf4_matmul():
        return False
    shapes = [(one.out_features, one.in_features) for one in _layers(model).values()]
    fits = sum(packed_matmul.packed_bytes(*shape) for shape in shapes) <= most
    if not fits:
        logging.getLogger(__name__).warning(
            "This processor has no AVX512-BF16, and %.1f billion weights are too many to unpack: "
            "each step will unpack them again, which is slow.",
            sum(out * into for out, into in shapes) / 1e9,
        )
    return fits


@torch.inference_mode()
def to_float32(model: Any) -> None:
    """Have a model compute in float32, in place; the embedding and the head stay as stored."""
    layers = _layers(model)
    for name in list(layers):
        layer = layers.pop(name)  # so that none stays that is unpacked
        model.set_submodule(name, DequantizedLinear(_values(layer), layer.bias))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    stored = {id(embedding.weight), id(head.weight)}
    for parameter in model.parameters():
        if id(parameter) not in stored and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    model.set_input_embeddings(Float32Embedding(embedding))
    model.set_output_embeddings(Float32Head(head))


def _layers(model: Any) -> dict[str, Any]:
    """Return the linear layers but for the head, 4-bit ones among them."""
    head = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    }


def _values(layer: Any) -> Tensor:
    """Return the (out, in) values that a layer's weights stand for."""
    from bitsandbytes.functional import dequantize_4bit

    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        stored: Tensor = layer.weight.detach()
        return stored
    values: Tensor = dequantize_4bit(layer.weight.data, state)
    return values
