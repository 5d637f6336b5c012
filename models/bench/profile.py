"""Where a step's time goes, what it reads, and how fast this machine reads at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from models.engine.attention.kv_cache import KVCache
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.multi_lora import lora_layers
from models.engine.sampling.lm_head import ScreenedHead
from models.text.detokenizer import Detokenizer
from models.types import Sampling

STEPS = 30
KINDS = {
    "4-bit products": ("bitsandbytes::gemv_4bit", "bitsandbytes::gemm_4bit"),
    "adapters' products": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm"),
    "products in float16, the adapters' among them": ("quantized::linear_dynamic_fp16",),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_flash_attention_forward",
        "aten::_efficient_attention_forward",
    ),
}


@torch.inference_mode()
def profile(engine: Engine, rows: Sequence[SequenceSpec], tokenizer: Any) -> dict[str, Any]:
    """Return the milliseconds of one step, by part, and of its pass through the layers, by kind."""
    steps, engine._steps = engine._steps, None  # a graph's parts cannot be told apart
    running = [engine.begin(row, Sampling()) for row in rows]
    for one in running:
        while engine.prefill(one) is None:
            pass
    head, parts = engine.head, {"layers": 0.0, "head": 0.0}

    def timed_head(hidden: torch.Tensor, drawn: Sequence[int] = ()) -> torch.Tensor:
        began = time.perf_counter()
        logits = head(hidden, drawn)
        parts["head"] += time.perf_counter() - began
        return logits

    feed = engine._feed

    def timed_feed(
        places: Sequence[tuple[KVCache, int]],
        ids: Sequence[Sequence[int]],
        branches: Sequence[int] | None = None,
    ) -> torch.Tensor:
        began = time.perf_counter()
        hidden = feed(places, ids, branches)
        parts["layers"] += time.perf_counter() - began
        return hidden

    guessing, engine.step_rows = engine.step_rows, 0
    engine.head, engine._feed = timed_head, timed_feed  # type: ignore[method-assign]
    try:
        began = time.perf_counter()
        said = [engine.launch(running)() for _ in range(STEPS)]
        whole = time.perf_counter() - began
    finally:
        engine.head, engine.step_rows = head, guessing
        del engine._feed
    parts["sampling"] = whole - sum(parts.values())
    texts = [Detokenizer(tokenizer) for _ in running]
    began = time.perf_counter()
    for step in said:
        for text, picked in zip(texts, step, strict=True):
            text.add(picked[0].id)
    parts["text"] = time.perf_counter() - began
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        for _ in range(STEPS):
            engine._feed([(one.slot, len(one.slot.fed)) for one in running], [(5,)] * len(running))
    for one in running:
        engine.end(one, keep=False)
    engine._steps = steps
    kinds = dict.fromkeys((*KINDS, "other kernels"), 0.0)
    calls = 0
    for event in recorded.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key in names), "other kernels")
        kinds[kind] += event.self_cpu_time_total / 1e6
        calls += event.count
    kinds = {kind: seconds for kind, seconds in kinds.items() if seconds}
    kinds["between kernels"] = max(0.0, parts["layers"] - sum(kinds.values()))
    return {
        "step_ms": {name: 1000 * seconds / STEPS for name, seconds in parts.items()},
        "layers_ms": {name: 1000 * seconds / STEPS for name, seconds in kinds.items()},
        "operations": calls // STEPS,
    }


def bytes_per_step(engine: Engine) -> int:
    """Return what a step reads of the weights: all layers, adapters, and the head."""
    linear, embedding = engine.exact_head.linear, engine.model.get_input_embeddings()
    apart = [one for part in (embedding, linear) for one in [*part.parameters(), *part.buffers()]]
    rows = {one.data_ptr() for one in apart}
    held = [*engine.model.parameters(), *engine.model.buffers()]
    layers = sum(one.nbytes for one in held if one.data_ptr() not in rows)
    layers += sum(stack.read_bytes for stack in lora_layers(engine.model))
    layers += sum(
        one.held.read_bytes for one in engine.model.modules() if isinstance(one, DequantizedLinear)
    )
    head = engine.head
    read = head.copy.read_bytes if isinstance(head, ScreenedHead) else linear.weight.nbytes
    return int(layers + read)


def read_bandwidth() -> float:
    """Return the bytes that this machine reads in a second: the best of ten sums over 256 MB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numbers = torch.ones(64 * 2**20, device=device)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - began)
    return numbers.nbytes / best
