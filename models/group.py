"""The variants that share a base, ready to answer: loaded, checked, and their engine made."""

from __future__ import annotations

import gc
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.encode import Encoder
from models.engine.blocks import use_blocks
from models.engine.dense import Dense, needed, widen
from models.engine.direct import settle
from models.engine.engine import Engine
from models.engine.four_bit import multiplies_4_bits, pack
from models.engine.head import ScreenedHead, choose_head
from models.engine.joined import join
from models.engine.norms import replace_norms
from models.engine.rows import Row
from models.engine.stacked import Carried, fold, stacks_of
from models.errors import WeightsError
from models.load import (
    adapters_of,
    device_and_dtypes,
    eos_ids,
    load_base,
    load_encoders,
    with_adapters,
)
from models.loaded import HeadGate, Loaded, Memory, Progress
from models.prepare import BLOCKS, Report, base_folder
from models.process import give_back, map_anew
from models.quiet import quiet_libraries
from models.types import Pin, Trio, Variant

PROBE = "The quick brown fox jumps over the lazy dog."
GATE_TEXT = (
    "The ferry leaves at half past six. She counted the coins twice and wrote: the blue one costs "
    "14.50, the green one a little less. Question: which should we take? Answer: it depends on the "
    "weather."
)
"""What the output head is judged on: prose, a number, a question and its answer."""


@dataclass(frozen=True, slots=True)
class Group:
    """The variants that share a base, ready to answer as one batch."""

    engine: Engine
    variants: tuple[Variant, ...]
    encoders: tuple[Encoder, ...]
    rows: tuple[int, ...]
    """For each variant, the number of its adapter in the stack; 0 is the base."""
    loaded: tuple[Loaded, ...]
    """Of each variant, as trained."""
    eos_ids: frozenset[int]
    probe: Row
    """The fixed prompt that fingerprints are taken on."""

    def at_strength(self, number: int, strength: float) -> Loaded:
        """Return what answers for a variant, by its number, with its adapter scaled."""
        if strength == 1:
            return self.loaded[number]
        scaled = replace(self.probe, adapter=self.rows[number], strength=strength)
        return replace(
            self.loaded[number], strength=strength, fingerprint=fingerprint(self.engine, scaled)
        )


def load_group(
    trio: Trio, variants: Sequence[Variant], report: Report, like: Group | None = None
) -> Group:
    """Load a base once, and the adapters of all variants on it.

    Args:
        trio: whose variants these are.
        variants: of one base.
        report: told how far it has come.
        like: a group that was loaded before; equal weights are held once for both.

    Raises:
        WeightsError: something cannot be had, is damaged or does not fit.
    """
    quiet_libraries()
    pin = variants[0].weights.base
    folder = base_folder(pin, report)
    report(Progress("Loading the tokenizer", 0.6))
    encoders = load_encoders(variants, report)
    tokenizer = encoders[0].tokenizer
    probe = Row(tuple(tokenizer(PROBE)["input_ids"]))
    adapters = adapters_of(variants)
    report(Progress("Loading the base and its adapters", 0.65))
    model, carried, states, logits = _finite(trio, folder, pin, adapters, probe)
    context = model.config.get_text_config().max_position_embeddings
    if trio.max_context > context:
        raise WeightsError(
            f"{trio.name} asks for a context of {trio.max_context} tokens, but {pin} was made for "
            f"{context}. Lower max_context."
        )
    report(Progress("Warming up", 0.8))
    pack(model)
    cpu = model.device.type == "cpu"
    if cpu:  # a GPU's layer norm takes no weight of another type
        replace_norms(model)
        only = all(variant.weights.base == pin for variant in trio.variants)  # shared by no other
        for layer in stacks_of(model):
            layer.hold(beside=only)
    settle(model)
    if like:
        share_equal(model, like.engine.model)
    engine = Engine(model, carried)
    if _unpacks(model):
        engine.step_rows = 0  # each row is paid for in full: no guesses
    _check(engine, probe, states, logits, pin)
    rows = tuple(adapters.index(a) + 1 if (a := v.weights.adapter) else 0 for v in variants)
    report(Progress("Checking the output head", 0.85))
    ids = tuple(tokenizer(GATE_TEXT)["input_ids"])
    hidden = [engine.hidden(Row(ids[:-1], row)) for row in rows]
    held = like.engine.head if like else None
    engine.head, gate = choose_head(
        model, hidden, torch.tensor(ids[1:]), held if isinstance(held, ScreenedHead) else None
    )
    gc.collect()  # PEFT's and transformers' own objects refer to each other
    give_back()
    return Group(
        engine=engine,
        variants=tuple(variants),
        encoders=encoders,
        rows=rows,
        loaded=tuple(
            _loaded(trio, v, gate, engine, replace(probe, adapter=row))
            for v, row in zip(variants, rows, strict=True)
        ),
        eos_ids=eos_ids(model, tokenizer),
        probe=probe,
    )


def memory(engines: Sequence[Engine]) -> Memory:
    """Return what engines hold, in bytes; what several share counts once."""
    models = [engine.model for engine in engines]
    stacks = [stack for model in models for stack in stacks_of(model)]
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


def _dense(model: nn.Module) -> list[Dense]:
    return [one for one in model.modules() if isinstance(one, Dense)]


def _glance(tensor: Tensor) -> tuple[Any, ...]:
    """Return what differs between most tensors that are not equal."""
    return tensor.shape, tensor.dtype, tuple(tensor.flatten()[:16].tolist())


@torch.inference_mode()
def fingerprint(engine: Engine, row: Row) -> str:
    """Return a hash over the logits of one row's last position: equal weights, equal hash."""
    logits = engine.exact_head(engine.hidden(row)[-1:])
    return hashlib.sha256(logits.float().cpu().numpy().tobytes()).hexdigest()[:12]


def _finite(
    trio: Trio, folder: Path, pin: Pin, adapters: Sequence[Pin], probe: Row
) -> tuple[Any, Carried, Tensor, Tensor]:
    """Load in the first type in which the model stays finite.

    Returns:
        The model with its adapters folded in, what its layers read, and what it computes for the
        probe by its own attention and head: hidden states, (T, d), and logits, (T, V).
    """
    device, dtypes = device_and_dtypes()
    for dtype in dtypes:
        model = load_base(folder, trio.precision, device, dtype)
        if trio.precision == "nf4" and device.type == "cpu":
            map_anew(model, folder)
        with_adapters(model, adapters, pin)
        wide = needed(model)
        computed_in = torch.float32 if wide else dtype
        carried = fold(model, [str(n) for n in range(len(adapters))], computed_in)
        if device.type == "cpu":
            use_blocks(model, folder / BLOCKS)
        join(model.eval())  # before the first pass, which gives 4-bit weights the kernel's form
        if wide:
            widen(model)
        with torch.inference_mode():
            ids = torch.tensor([probe.ids], device=device)
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            logits = model(input_ids=ids, use_cache=False).logits[0]
        if states.isfinite().all():
            return model, carried, states, logits
    raise WeightsError(f"{pin} computes no finite numbers in {dtypes[-1]}.")


@torch.inference_mode()
def _check(engine: Engine, row: Row, states: Tensor, logits: Tensor, pin: Pin) -> None:
    """Refuse a model whose attention or head is of a kind that the engine does not know."""
    own = engine.hidden(row)
    pairs = {"attention": (own, states), "output head": (engine.exact_head(own), logits)}
    for part, (found, expected) in pairs.items():
        off = (found - expected).float().norm() / expected.float().norm()
        if not off < 0.05:
            raise WeightsError(
                f"The engine's {part} does not compute what {pin} computes by itself (off by "
                f"{off:.0%}): models of the kind {engine.model.config.model_type} are not served."
            )


def _loaded(trio: Trio, variant: Variant, gate: HeadGate, engine: Engine, probe: Row) -> Loaded:
    adapter, device = variant.weights.adapter, engine.shape.device
    return Loaded(
        model=str(variant.weights.base),
        adapter=adapter.source.rsplit("/")[-1] if adapter else None,
        precision=trio.precision,
        dtype=str(engine.shape.dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        fingerprint=fingerprint(engine, probe),
        head=gate,
    )


def _unpacks(model: nn.Module) -> bool:
    """Whether a CPU has 4-bit layers, and no kernel that multiplies them."""
    from bitsandbytes.nn import Linear4bit

    slow = next(model.parameters()).device.type == "cpu" and not multiplies_4_bits()
    return slow and any(isinstance(layer, Linear4bit) for layer in model.modules())


def _bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all weights, each counted once, 4-bit scales included."""
    held: dict[int, int] = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            held[tensor.data_ptr()] = tensor.nbytes
            if state := getattr(tensor, "quant_state", None):
                held[state.absmax.data_ptr()] = state.absmax.nbytes
    return sum(held.values())
