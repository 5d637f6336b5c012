"""4-bit linear layers (NF4, Dettmers et al. 2305.14314 §3), concatenated and called directly.

Each block of 64 weights has its own scale, and no block spans two rows, so that concatenated layers
keep the same values, bit for bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.capabilities import withheld
from models.engine.layers.module import HooklessModule

_KERNEL_OUTPUTS = 32
"""The CPU kernel computes this many outputs at a time."""


def has_nf4_matmul() -> bool:
    """Whether bitsandbytes has a 4-bit matmul kernel for this CPU; it needs AVX512-BF16."""
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16()) and "bnb_kernels" not in withheld()


def unpack_odd_layers(model: nn.Module) -> None:
    """Keep bitsandbytes' CPU kernels from layers whose shape they do not take, in place.

    Its matmul takes outputs in groups of 32: other layers are dequantized in each call. No kernel
    takes blocks that span two rows, which are dequantized here, once. bitsandbytes checks neither.
    """
    from bitsandbytes.nn import Linear4bit

    for path, layer in list(model.named_modules()):
        if isinstance(layer, Linear4bit) and layer.weight.device.type == "cpu":
            if layer.in_features % layer.weight.quant_state.blocksize:
                model.set_submodule(path, _dequantized(layer))
            elif layer.out_features % _KERNEL_OUTPUTS or not has_nf4_matmul():
                layer.support_avx512bf16_for_cpu = False


def _dequantized(layer: Any) -> nn.Linear:
    height, width = layer.weight.quant_state.shape
    plain = nn.Linear(width, height, bias=layer.bias is not None, device="meta")
    values = dequantize(layer.weight.data, layer.weight.quant_state)
    plain.weight = nn.Parameter(values, requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().to(values.dtype), requires_grad=False)
    return plain.eval()


class Nf4Linear(HooklessModule):
    """A 4-bit layer that calls the CPU's kernel directly."""

    def __init__(self, layer: Any) -> None:
        """Hold the weights of a layer whose first call has packed them for the kernel."""
        super().__init__()
        state = layer.weight.quant_state
        self.register_buffer("weight", layer.weight.data, persistent=False)
        self.register_buffer("absmax", state.absmax, persistent=False)
        self.register_buffer("code", state.code, persistent=False)
        self.shape = list(state.shape)
        self.blocksize = state.blocksize

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        y: Tensor = torch.ops.bitsandbytes.gemv_4bit.default(
            x, self.weight, self.shape, self.absmax, self.code, self.blocksize
        )
        return y


def _kernel() -> Any:
    """Return the function of bitsandbytes' library that its operation calls here, or None."""
    from bitsandbytes.backends.cpu import ops
    from bitsandbytes.cextension import lib

    if getattr(ops, "gemm_4bit_forward_kernel", None) is not None:  # which it would call
        return None
    return getattr(getattr(lib, "_lib", lib), "gemv_4bit_inference_cpu_nf4_bf16", None)


def direct_call(
    function: Any, args: Sequence[Any], results: Sequence[Tensor]
) -> Callable[[], object] | None:
    """Return a function that computes an `Nf4Linear` by bitsandbytes' kernel alone, or None.

    The operation's Python code takes as long as the product of a few rows. Here the tensors lie
    where they are, so that all that is left is a call of the kernel with their addresses.

    Args:
        function: an operation of torch; None is returned for all but the 4-bit product.
        args: its arguments; their addresses are kept, so that they must live as long.
        results: the tensor to write to, which must, too.
    """
    if str(function) != "bitsandbytes.gemv_4bit.default" or (kernel := _kernel()) is None:
        return None
    x, weight, (height, width), absmax, code, blocksize = args
    (y,) = results
    rows = x.reshape(-1, width)
    if (
        any(tensor.dtype != torch.bfloat16 for tensor in (x, absmax, y))
        or weight.dtype != torch.uint8
        or code[1] > 0  # FP4
        or not all(tensor.is_contiguous() for tensor in (weight, absmax, y))
        or (2 * weight.numel(), absmax.numel() * blocksize) != (height * width,) * 2
        or rows.stride(1) != 1
        or rows.data_ptr() != x.data_ptr()  # it was copied
    ):
        return None
    numbers = [ctypes.c_int64(number) for number in (len(rows), height, width)]
    addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (rows, weight, absmax, y)]
    strides = [ctypes.c_int64(number) for number in (blocksize, rows.stride(0), height)]
    return partial(kernel, *numbers, *addresses, *strides)


def dequantize(weight: Tensor, state: Any) -> Tensor:
    """Return the values of 4-bit weights, (out, in), in the dtype that their state names.

    Args:
        weight: the packed codes, two a byte, the first in the upper half.
        state: bitsandbytes' `QuantState`: a scale for each block, and the value of each code.
    """
    spans_rows = weight.device.type == "cpu" and state.shape[-1] % state.blocksize
    if not spans_rows and "bnb_kernels" not in withheld():  # the CPU's kernel takes whole rows
        from bitsandbytes.functional import dequantize_4bit

        values: Tensor = dequantize_4bit(weight, state)
        return values
    absmax = state.absmax
    if state.nested:  # the scales are themselves in 8 bits
        scales = state.state2
        blocks = scales.absmax.repeat_interleave(scales.blocksize)[: len(absmax)]
        absmax = scales.code[absmax.long()] * blocks + state.offset
    codes = weight.view(torch.uint8).flatten()
    values = state.code[torch.stack([codes >> 4, codes & 15], 1).flatten().long()]
    values = values[: state.shape.numel()]
    values *= absmax.float().repeat_interleave(state.blocksize)[: len(values)]
    return values.to(state.dtype).view(state.shape)


def replace_nf4_layers(model: nn.Module) -> None:
    """Replace 4-bit layers packed for the CPU kernel by ones that call it directly, in place.

    bitsandbytes checks and casts in three functions before it calls the kernel: 10 of the 38 µs of
    a matmul of three rows, 640 × 1536.
    """
    from bitsandbytes.nn import Linear4bit

    for path, layer in list(model.named_modules()):
        if isinstance(layer, Linear4bit) and _is_packed(layer) and layer.bias is None:
            model.set_submodule(path, Nf4Linear(layer))


def _is_packed(layer: Any) -> bool:
    return getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


def can_concatenate(layers: Sequence[Any]) -> bool:
    """Whether these are 4-bit layers, not packed for the CPU, whose blocks do not span rows."""
    from bitsandbytes.nn import Linear4bit

    return all(
        type(layer) is Linear4bit
        and (state := layer.weight.quant_state) is not None
        and not state.nested
        and not _is_packed(layer)
        and layer.in_features % state.blocksize == 0
        for layer in layers
    )


def concatenate(layers: Sequence[Any]) -> Any:
    """Return one 4-bit layer with the outputs of all, in order."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Linear4bit, Params4bit

    first, states = layers[0], [layer.weight.quant_state for layer in layers]
    height = sum(layer.out_features for layer in layers)
    state = QuantState(
        absmax=torch.cat([state.absmax for state in states]),
        shape=torch.Size((height, first.in_features)),
        code=states[0].code,
        blocksize=states[0].blocksize,
        quant_type=states[0].quant_type,
        dtype=states[0].dtype,
    )
    joined = Linear4bit(
        first.in_features,
        height,
        bias=first.bias is not None,
        compute_dtype=first.compute_dtype,
        quant_type=state.quant_type,
        device="meta",
    )
    joined.weight = Params4bit(
        torch.cat([layer.weight.data for layer in layers]),
        requires_grad=False,
        quant_state=state,
        blocksize=state.blocksize,
        compress_statistics=False,
        quant_type=state.quant_type,
        bnb_quantized=True,
    )
    if first.bias is not None:
        bias = torch.cat([layer.bias for layer in layers])
        joined.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return joined.eval()
