"""Shares equal tensors between models, and counts memory with shared tensors counted once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.engine import Engine
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.multi_lora import lora_layers
from models.engine.layers.tuned_modules import tuned_modules
from models.engine.sampling.lm_head import ScreenedHead
from models.model_info import Memory


def memory(engines: Sequence[Engine]) -> Memory:
    """Return the memory of engines in bytes; shared tensors count once."""
    models = [engine.lm.model for engine in engines]
    adapters = [layer for model in models for layer in lora_layers(model)]
    tuned = [m for model in models for layer in tuned_modules(model) for m in layer.tuned]
    tuned_heads = [change for engine in engines for change in engine.lm.adapters.head_changes]
    dequantized = {
        id(layer.matrix): layer.matrix.nbytes - layer.added_bytes
        for model in models
        for layer in _dequantized(model)
    }
    buffers = {t.data_ptr(): t.nbytes for layer in adapters for t in layer.buffers(recurse=False)}
    buffers |= {t.data_ptr(): t.nbytes for module in tuned for t in _tensors(module)}
    packed = [layer.nbytes for layer in adapters if layer.packed]
    heads = [engine.lm.head for engine in engines]
    copies = {id(head): head.copy.nbytes for head in heads if isinstance(head, ScreenedHead)}
    return Memory(
        base_bytes=_bytes(models) - sum(buffers.values()) + sum(dequantized.values()),
        adapter_bytes=sum(buffers.values()) + sum(packed) + _bytes(tuned_heads),
        head_bytes=sum(copies.values()),
        kv_bytes_per_token=max(engine.lm.kv_shape.bytes_per_token for engine in engines),
    )


def share_equal(model: nn.Module, other: nn.Module) -> None:
    """Make a model use another's tensors wherever they are equal, bit for bit."""
    candidates: dict[Any, list[Tensor]] = defaultdict(list)
    for tensor in [*other.parameters(), *other.buffers()]:
        candidates[_quick_key(tensor)].append(tensor)
    for own in [*model.parameters(), *model.buffers()]:
        equal = (theirs for theirs in candidates[_quick_key(own)] if torch.equal(theirs, own))
        if (theirs := next(equal, None)) is not None:
            own.data = theirs.data
    matrices = {layer.digest: layer.matrix for layer in _dequantized(other)}
    for layer in _dequantized(model):
        layer.matrix = matrices.get(layer.digest, layer.matrix)


def _dequantized(model: nn.Module) -> list[DequantizedLinear]:
    return [layer for layer in model.modules() if isinstance(layer, DequantizedLinear)]


def _quick_key(tensor: Tensor) -> tuple[Any, ...]:
    """Return a cheap key that is equal for equal tensors, and differs for most others."""
    return tensor.shape, tensor.dtype, tuple(tensor.flatten()[:16].tolist())


def _tensors(module: Any) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all weights, each tensor counted once, 4-bit scales included."""
    sizes: dict[int, int] = {}
    for module in modules:
        for tensor in _tensors(module):
            sizes[tensor.data_ptr()] = tensor.nbytes
            if state := getattr(tensor, "quant_state", None):
                sizes[state.absmax.data_ptr()] = state.absmax.nbytes
    return sum(sizes.values())
