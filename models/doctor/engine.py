"""What computes a trio here: device, kernels, CUDA graphs, speed against the memory's, memory."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from models.backends.local import LocalBackend
from models.backends.model_group import ModelGroup
from models.bench.profile import bytes_per_step, read_bandwidth
from models.bench.subprocess_runner import resident_bytes
from models.capabilities import withheld
from models.doctor.check import DoctorCheck, megabytes
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.dequantized import DequantizedLinear, Float32Embedding
from models.engine.layers.nf4 import has_nf4_matmul
from models.engine.layers.packed_matmul import has_fbgemm, has_matmul, has_onednn
from models.engine.layers.q8_0 import Q8Embedding
from models.model_info import StepCheck
from models.serving.compute_thread import submit
from models.types import GREEDY

STEPS = 12
"""Decode steps that are timed."""
SLOW = 0.1
"""Share of the memory's speed below which something else is likely to hold a step up."""


def examine_device() -> Iterator[DoctorCheck]:
    """Yield a check of the device that computes, and of what is there and unused."""
    threads = torch.get_num_threads()
    build = f"torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
        name = f"{torch.cuda.get_device_name()} with {megabytes(memory)}, CUDA {torch.version.cuda}"
        yield DoctorCheck("Device", f"{name}; {build}")
        return
    if torch.version.cuda:
        advice = "This torch is built for CUDA and sees no GPU: check the driver by nvidia-smi."
        yield DoctorCheck("Device", f"CPU; {build}", "note", advice)
    elif torch.backends.mps.is_available():
        advice = (
            "The Apple GPU is not used: neither bitsandbytes' kernels nor ours were tried there."
        )
        yield DoctorCheck("Device", f"CPU; {build}", "note", advice)
    else:
        yield DoctorCheck("Device", f"CPU; {build}")


def examine_engine(backend: LocalBackend) -> Iterator[DoctorCheck]:
    """Yield checks of each base's kernels and speed, and of the memory of all."""
    for group in backend.groups:
        yield from _kernels(group)
        yield from examine_steps(group.engine.step_checks)
        yield submit(_speed, group).result()
    size = backend.memory()
    parts = f"base {megabytes(size.base_bytes)}, adapters {megabytes(size.adapter_bytes)}"
    parts += f", 8-bit head {megabytes(size.head_bytes)}" if size.head_bytes else ""
    if torch.cuda.is_available():
        parts += f", {megabytes(torch.cuda.max_memory_allocated())} of the GPU at most"
    resident = resident_bytes()
    value = f"process {megabytes(resident)}: {parts}" if resident else parts
    yield DoctorCheck("Memory of the trio", value)


def _kernels(group: ModelGroup) -> Iterator[DoctorCheck]:
    engine, info = group.engine, group.infos[0]
    yield DoctorCheck("Weights", f"{info.precision}, computed in {info.dtype} on {info.device}")
    yield _linear_layers(engine)
    gate = info.head
    if gate.used:
        yield DoctorCheck(
            "Output head",
            f"8-bit copy finds {gate.candidates} candidates, exact rows decide; likeliest token "
            f"the same in {gate.top1:.0%} of {gate.positions} positions, KL {gate.kl:.4f} nats",
        )
    else:
        yield DoctorCheck("Output head", f"exact: {gate.reason or 'as the model has it'}")
    embedding = engine.lm.model.get_input_embeddings()
    stored = embedding.stored if isinstance(embedding, Float32Embedding) else embedding
    if isinstance(stored, Q8Embedding):
        yield DoctorCheck("Embedding", "8 bits, as in its GGUF file, the same values to the bit")
    else:
        dtype = str(stored.weight.dtype).removeprefix("torch.")
        yield DoctorCheck("Embedding", f"{dtype}: no 8-bit form of the same values beside it")
    kind = "slots of one length, for CUDA graphs" if engine.step_checks else "grows as it is needed"
    yield DoctorCheck("Attention", f"torch's scaled_dot_product_attention; KV cache {kind}")


def _linear_layers(engine: Engine) -> DoctorCheck:
    """Tell how many layers each kind of product serves, and why none is a 4-bit one."""
    head = set(engine.lm.exact_head.linear.modules())
    modules = [module for module in engine.lm.model.modules() if module not in head]
    kinds = Counter(
        type(module.matrix).__name__ if isinstance(module, DequantizedLinear) else name
        for module in modules
        if (name := type(module).__name__) in (*PRODUCTS, "DequantizedLinear")
    )
    value = ", ".join(f"{count} × {PRODUCTS[kind]}" for kind, count in kinds.items())
    if engine.lm.kv_shape.device.type != "cpu" or has_nf4_matmul():
        return DoctorCheck("Linear layers", value)
    reasons = [
        "Products in 4 bits are taken away by TRIPTYCH_WITHOUT"
        if "bnb_kernels" in withheld()
        else "A 4-bit product needs AVX512-BF16"
    ]
    if not has_fbgemm():
        reasons.append("there is no FBGEMM, so that weights take twice as much as in float16")
    if not has_onednn():
        reasons.append("there is no oneDNN")
    elif not has_matmul(torch.bfloat16):
        reasons.append("bf16 is not native")
    return DoctorCheck("Linear layers", value, "note", f"{'; '.join(reasons)}.")


PRODUCTS = {
    "Nf4Linear": "4-bit kernel called directly",
    "Linear4bit": "4 bits by bitsandbytes",
    "Fp16Matrix": "float16 by FBGEMM",
    "OneDnnMatrix": "float32 by oneDNN",
    "UnpackedMatrix": "float32 by torch",
    "Linear": "plain product of torch",
}
"""Kinds of products, by the class that computes them."""


def examine_steps(checks: Sequence[StepCheck]) -> Iterator[DoctorCheck]:
    """Yield a check of each CUDA graph, as it was compared with ordinary steps at load."""
    if not checks:
        yield DoctorCheck("CUDA graph", "none: steps on a CPU are not captured")
    for check in checks:
        kind = "captured" if check.captured else "not captured, launched kernel by kernel"
        value = (
            f"{check.rows} rows, {check.columns} cached tokens: {kind}; logits differ by "
            f"{check.difference:.2%} from ordinary steps ({check.tolerance:.1%} is allowed), "
            f"{check.same_tokens} of {check.tokens} tokens the same"
        )
        if check.fault:
            advice = "Ordinary steps run in its place: right, but slower. Report this line."
            yield DoctorCheck("CUDA graph", f"{value}; {check.fault}", "fault", advice)
        elif not check.captured:
            yield DoctorCheck("CUDA graph", value, "note", "Right, but slower. Report this line.")
        else:
            yield DoctorCheck("CUDA graph", value)


def _speed(group: ModelGroup) -> DoctorCheck:
    """Time decode steps without guessed tokens, beside how fast memory is read and copied."""
    engine, read = group.engine, bytes_per_step(group.engine)
    specs = [SequenceSpec(group.probe.ids, adapter) for adapter in group.adapters]
    seconds = _step_seconds(engine, specs)
    read_speed, copy_speed = read_bandwidth(), copy_bandwidth()
    share = read / seconds / read_speed
    value = (
        f"{len(specs) / seconds:.0f} tokens/s without guesses, {1 / seconds:.1f} steps/s of "
        f"{len(specs)} rows; a step reads {megabytes(read)} of weights, and memory gives "
        f"{read_speed / 1e9:.1f} GB/s (copies {copy_speed / 1e9:.1f} GB/s): {share:.0%} of "
        f"the {read_speed / read:.0f} steps/s that it allows"
    )
    if share < SLOW:
        advice = "Slow for this memory. Is the machine busy (see Cores)? "
        advice += "Threads that wait for each other are helped by OMP_NUM_THREADS=1."
        return DoctorCheck("Speed", value, "note", advice)
    return DoctorCheck("Speed", value)


def _step_seconds(engine: Engine, specs: list[SequenceSpec]) -> float:
    """Return the median seconds of a decode step of some sequences, one token each."""
    guesses, engine.max_guesses = engine.max_guesses, 0
    sequences = [engine.add(spec, GREEDY) for spec in specs]
    try:
        for sequence in sequences:
            while engine.prefill(sequence) is None:
                pass
        times = []
        for _ in range(STEPS):
            began = time.perf_counter()
            engine.start_step(sequences)()
            times.append(time.perf_counter() - began)
    finally:
        engine.max_guesses = guesses
        for sequence in sequences:
            engine.remove(sequence, keep=False)
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Return the bytes per second of a copy, read and written: the best of five of 128 MB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.ones(32 * 2**20, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best
