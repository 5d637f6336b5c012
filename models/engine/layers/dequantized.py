"""Dequantizes 4-bit weights once, for CPUs without a 4-bit or bf16 matmul kernel.

bitsandbytes' 4-bit matmul on a CPU needs AVX512-BF16, which most laptops lack; without it every
call dequantizes the whole matrix again. On such CPUs the weights of a small model are dequantized
once. The values are the same (but float16 rounds those below 2⁻¹⁷), and the products, in float32,
are more accurate.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers import packed_matmul
from models.engine.layers.module import HooklessModule
from models.engine.layers.nf4 import dequantize, has_nf4_matmul
from models.engine.layers.q8_0 import row_chunks

_CHUNK_ROWS = 1024
"""Rows of the output head that are converted to float32 at a time, so that they stay in cache."""
MAX_BYTES = 4_000_000_000
"""Bytes that a model's dequantized linear layers may take."""


class DequantizedLinear(HooklessModule):
    """A linear layer for float32 states."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack (out, in) weights of any float type."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        tensors = [weight] if bias is None else [weight, bias.detach()]
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
        self.digest: tuple[Any, ...] = (len(tensors), weight.shape, weight.dtype, digest.digest())
        """Hash of the weights, by which layers are compared, as packed weights cannot be."""
        self.matrix = packed_matmul.pack_matrix(*[tensor.float() for tensor in tensors])
        self.added_bytes = 0
        """Bytes of the columns that `extend` appended."""

    def extend(self, columns: Tensor) -> bool:
        """Append columns, (out, more), to the weights; inputs must then be longer by `more`.

        Returns:
            Whether they were appended: only if they fit float16 and take no more memory here than
            as a separate matrix.
        """
        width = self.in_features + columns.shape[1]
        added = packed_matmul.packed_bytes(self.out_features, width) - self.matrix.nbytes
        if not isinstance(self.matrix, packed_matmul.Fp16Matrix) or added > columns.nbytes:
            return False
        if (matrix := self.matrix.with_columns(columns)) is None:
            return False
        self.matrix, self.added_bytes, self.in_features = matrix, added, width
        self.digest = (id(self),)  # equal to no other layer's
        return True

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return self.matrix(x)


class Float32Embedding(HooklessModule):
    """An embedding that keeps its stored dtype, and whose outputs are float32."""

    def __init__(self, stored: nn.Module) -> None:
        """Wrap a model's own embedding."""
        super().__init__()
        self.stored = stored
        self.weight = stored.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d)."""
        states: Tensor = self.stored(ids)
        return states.float()


class Float32Head(HooklessModule):
    """An output head that keeps its stored dtype, and is multiplied in float32."""

    def __init__(self, stored: Any) -> None:
        """Wrap a model's own output head."""
        super().__init__()
        self.stored = stored  # a submodule, for `parameters()`: memory and device are read there
        self.weight = stored.weight
        self.bias = stored.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, d) → (…, V); a row's logits are the same to the bit in any batch."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        if len(rows) == 1:  # a single row would be summed in another order
            return self.forward(hidden.expand(2, *hidden.shape))[0]
        logits = rows.new_empty(len(rows), len(self.weight))
        chunks = row_chunks(self.weight, _CHUNK_ROWS)
        for columns, chunk in zip(torch.split(logits, _CHUNK_ROWS, 1), chunks, strict=True):
            columns.copy_(packed_matmul.matmul(rows, chunk.float()))
        if self.bias is not None:
            logits += self.bias
        return logits.view(*hidden.shape[:-1], -1)


def needs_dequantized(model: nn.Module, max_bytes: int = MAX_BYTES) -> bool:
    """Whether this CPU would dequantize or emulate bf16 in each step, and the model is small."""
    if next(model.parameters()).device.type != "cpu" or has_nf4_matmul():
        return False
    shapes = [(layer.out_features, layer.in_features) for layer in _linear_layers(model).values()]
    fits = sum(packed_matmul.packed_bytes(*shape) for shape in shapes) <= max_bytes
    if not fits:
        logging.getLogger(__name__).warning(
            "This processor has no AVX512-BF16, and %.1f billion weights are too many to unpack: "
            "each step will unpack them again, which is slow.",
            sum(height * width for height, width in shapes) / 1e9,
        )
    return fits


@torch.inference_mode()
def to_float32(model: Any) -> None:
    """Make a model compute in float32, in place; embedding and output head stay as stored."""
    layers = _linear_layers(model)
    for path in list(layers):
        layer = layers.pop(path)  # drop the reference: no layer is in memory twice
        model.set_submodule(path, DequantizedLinear(weight_values(layer), layer.bias))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    stored = {id(embedding.weight), id(head.weight)}
    for parameter in model.parameters():
        if id(parameter) not in stored and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    model.set_input_embeddings(Float32Embedding(embedding))
    model.set_output_embeddings(Float32Head(head))


@torch.inference_mode()
def unpack_int8(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace 8-bit layers by plain ones with the same weights, in place.

    bitsandbytes' own product (LLM.int8, Dettmers et al. 2208.07339, §3.2) computes the columns in
    which any row of the batch has a large value apart, so that a row would depend on its neighbours
    and the base on its adapters.
    """
    from bitsandbytes.nn import Linear8bitLt

    for path, layer in list(model.named_modules()):
        if isinstance(layer, Linear8bitLt):
            model.set_submodule(path, unpacked_linear(layer, dtype))


def unpacked_linear(layer: Any, dtype: torch.dtype) -> nn.Linear:
    """Return a linear layer with the weights of a quantized one."""
    plain = nn.Linear(
        layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
    )
    plain.weight = nn.Parameter(weight_values(layer).to(dtype), requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    return plain.eval()


def _linear_layers(model: Any) -> dict[str, Any]:
    """Return all linear layers except the output head, by path; 4-bit layers are included."""
    head = model.get_output_embeddings()
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    }


def weight_values(layer: Any) -> Tensor:
    """Return a layer's weights as (out, in) values, dequantized if they are in 4 or 8 bits."""
    from bitsandbytes.functional import int8_vectorwise_dequant

    weight: Any = layer.weight
    values: Tensor
    if (state := getattr(weight, "quant_state", None)) is not None:
        return dequantize(weight.data, state)
    if weight.dtype == torch.int8:  # the scales move to the layer's state in its first call
        scales = layer.state.SCB if getattr(weight, "SCB", None) is None else weight.SCB
        values = int8_vectorwise_dequant(weight.data, scales)
        return values
    if hasattr(layer, "nf"):  # GPT-2's layer, whose weight is (in, out)
        weight = weight.T
    values = weight.detach()
    return values
