"""What models hold: counted once, and held once where it is equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.engine import Engine
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.multi_lora import lora_layers
from models.engine.sampling.lm_head import ScreenedHead
from models.model_info import Memory


def memory(engines: Sequence[Engine]) -> Memory:
    """Return what engines hold, in bytes; what several share counts once."""
    models = [engine.model for engine in engines]
    stacks = [stack for model in models for stack in lora_layers(model)]
    wide = {
        id(one.held): one.held.nbytes - one.more_bytes for model in models for one in _dense(model)
    }
    dense = {t.data_ptr(): t.nbytes for stack in stacks for t in stack.buffers(recurse=False)}
    opaque = [stack.nbytes for stack in stacks if stack.held]
    copies = {
        id(head): head.copy.nbytes
        for engine in engines
        if isinstance(head := engine.head, ScreenedHead)
    }
    return Memory(
        base_bytes=_bytes(models) - sum(dense.values()) + sum(wide.values()),
        adapter_bytes=sum(dense.values()) + sum(opaque),
        head_bytes=sum(copies.values()),
        kv_bytes_per_token=max(engine.shape.bytes_per_token for engine in engines),
    )


def share_equal(model: nn.Module, other: nn.Module) -> None:
    """Let a model hold another's tensors wherever they are equal, bit for bit."""
    theirs: dict[Any, list[Tensor]] = defaultdict(list)
    for one in [*other.parameters(), *other.buffers()]:
        theirs[_glance(one)].append(one)
    for own in [*model.parameters(), *model.buffers()]:
        same = next((one for one in theirs[_glance(own)] if torch.equal(one, own)), None)
        if same is not None:
            own.data = same.data
    held = {one.digest: one.held for one in _dense(other)}
    for layer in _dense(model):
        layer.held = held.get(layer.digest, layer.held)


def _dense(model: nn.Module) -> list[DequantizedLinear]:
    return [one for one in model.modules() if isinstance(one, DequantizedLinear)]


def _glance(tensor: Tensor) -> tuple[Any, ...]:
    """Return what differs between most tensors that are not equal."""
    return tensor.shape, tensor.dtype, tuple(tensor.flatten()[:16].tolist())


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all weights, each counted once, 4-bit scales included."""
    held: dict[int, int] = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            held[tensor.data_ptr()] = tensor.nbytes
            if state := getattr(tensor, "quant_state", None):
                held[state.absmax.data_ptr()] = state.absmax.nbytes
    return sum(held.values())
