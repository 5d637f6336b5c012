"""Profiles a decode step: time by part, bytes read, and this machine's read bandwidth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from models.engine.engine import Engine
from models.engine.interface import SampledToken, SequenceSpec
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.multi_lora import lora_layers
from models.engine.replay.replays import RECORDED_AT
from models.engine.sampling.lm_head import ScreenedHead
from models.engine.sampling.sampler import sample_tokens
from models.engine.sequence import ActiveSequence
from models.text.detokenizer import Detokenizer
from models.types import Sampling

STEPS = 30
"""Number of decode steps that a profile averages."""
KINDS = {
    "4-bit products": ("bitsandbytes::gemv_4bit", "bitsandbytes::gemm_4bit"),
    "adapters' products": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm"),
    "products in float16, the adapters' among them": ("quantized::linear_dynamic_fp16",),
    "attention": (
        "attend",  # a replay's, with its Python code
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_flash_attention_forward",
        "aten::_efficient_attention_forward",
    ),
}
"""Names of the kernels of each kind."""


@torch.inference_mode()
def profile(engine: Engine, specs: Sequence[SequenceSpec], tokenizer: Any) -> dict[str, Any]:
    """Return the milliseconds of a decode step by part, and of its layers by kind of kernel.

    The step runs part by part here, without CUDA graph and without guessed tokens. Where the layers
    are replayed, each call of a replay is timed; elsewhere torch's profiler times the kernels.
    """
    sequences = [engine.add(spec, Sampling()) for spec in specs]
    for sequence in sequences:
        while engine.prefill(sequence) is None:
            pass
    parts = {"layers": 0.0, "head": 0.0, "sampling": 0.0}
    texts: list[list[int]] = [[] for _ in sequences]
    for _ in range(RECORDED_AT + 2):  # from then on the layers are replayed, where they can be
        _forward(engine, sequences)
    for _ in range(STEPS):
        times = [time.perf_counter()]
        hidden = _forward(engine, sequences)
        times.append(time.perf_counter())
        logits = engine.lm.head(hidden[:, -1])
        times.append(time.perf_counter())
        uniforms = [sequence.uniforms(1)[0] for sequence in sequences]
        ids, logprobs = sample_tokens(logits, uniforms, [s.sampling for s in sequences])
        tokens = [SampledToken(*pair) for pair in zip(ids.tolist(), logprobs.tolist(), strict=True)]
        for sequence, text, token in zip(sequences, texts, tokens, strict=True):
            sequence.cache.ids.append(sequence.next_id)
            sequence.accept([token])
            text.append(token.id)
        times.append(time.perf_counter())
        for name, (start, end) in zip(parts, pairwise(times), strict=True):
            parts[name] += end - start
    began = time.perf_counter()
    for text in texts:
        detokenizer = Detokenizer(tokenizer)
        for id in text:
            detokenizer.add(id)
    parts["text"] = time.perf_counter() - began
    seconds, calls = _by_operation(engine, sequences)
    for sequence in sequences:
        engine.remove(sequence, keep=False)
    kinds = dict.fromkeys((*KINDS, "other kernels"), 0.0)
    for name, spent in seconds.items():
        kinds[next((kind for kind, names in KINDS.items() if name in names), "other kernels")] += (
            spent
        )
    kinds = {kind: seconds for kind, seconds in kinds.items() if seconds}
    kinds["between kernels"] = max(0.0, parts["layers"] - sum(kinds.values()))
    return {
        "step_ms": {name: 1000 * seconds / STEPS for name, seconds in parts.items()},
        "layers_ms": {name: 1000 * seconds / STEPS for name, seconds in kinds.items()},
        "operations": calls,
    }


def _by_operation(
    engine: Engine, sequences: Sequence[ActiveSequence]
) -> tuple[dict[str, float], int]:
    """Return the seconds that operations take in `STEPS` passes, and their number in one."""
    replays = engine.lm.replays
    seconds: dict[str, float] = {}
    replays.seconds = seconds
    try:
        for _ in range(STEPS):
            _forward(engine, sequences)
    finally:
        replays.seconds = None
    if replays.last_way == "replayed":
        return seconds, replays.calls
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        for _ in range(STEPS):
            _forward(engine, sequences)
    events = recorded.key_averages()
    seconds = {event.key: event.self_cpu_time_total / 1e6 for event in events}
    return seconds, sum(event.count for event in events) // STEPS


def _forward(engine: Engine, sequences: Sequence[ActiveSequence]) -> Tensor:
    """Feed each sequence its last token, without adding the token to the cache's `ids` yet."""
    places = [(sequence.cache, len(sequence.cache.ids)) for sequence in sequences]
    return engine.lm.forward(places, [(sequence.next_id,) for sequence in sequences])


def bytes_per_step(engine: Engine) -> int:
    """Return the bytes of weights that a step reads: all layers, adapters, and the output head."""
    model, head = engine.lm.model, engine.lm.head
    linear, embedding = engine.lm.exact_head.linear, model.get_input_embeddings()
    separate = [t for part in (embedding, linear) for t in [*part.parameters(), *part.buffers()]]
    addresses = {tensor.data_ptr() for tensor in separate}
    tensors = [*model.parameters(), *model.buffers()]
    layers = sum(tensor.nbytes for tensor in tensors if tensor.data_ptr() not in addresses)
    layers += sum(layer.read_bytes for layer in lora_layers(model))
    layers += sum(
        layer.matrix.read_bytes for layer in model.modules() if isinstance(layer, DequantizedLinear)
    )
    read = head.copy.read_bytes if isinstance(head, ScreenedHead) else linear.weight.nbytes
    return int(layers + read)


def read_bandwidth() -> float:
    """Return the read bandwidth in bytes per second: the best of ten sums over 256 MB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    numbers = torch.ones(64 * 2**20, device=device)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        numbers.sum().item()
        best = min(best, time.perf_counter() - began)
    return numbers.nbytes / best
