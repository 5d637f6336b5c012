"""The variants that share a base, ready to answer: loaded, checked, and their engine made."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.dequantized import needs_dequantized, to_float32
from models.engine.layers.fused_linear import fuse_linears
from models.engine.layers.module import freeze_attributes
from models.engine.layers.multi_lora import ActiveAdapters, lora_layers, stack_adapters
from models.engine.layers.nf4 import has_nf4_matmul, replace_nf4_layers
from models.engine.layers.q8_0 import use_q8_embedding
from models.engine.layers.rms_norm import replace_norms
from models.engine.sampling.lm_head import ScreenedHead, choose_head
from models.errors import WeightsError
from models.model_info import HeadGate, ModelInfo, Progress, ProgressCallback
from models.serving.compute_thread import submit
from models.text.encoder import Encoder
from models.types import Pin, Trio, Variant
from models.weights.allocator import give_back, map_anew
from models.weights.fetch import BLOCKS, fetched
from models.weights.load import (
    adapters_of,
    device_and_dtypes,
    eos_ids,
    load_base,
    load_encoders,
    with_adapters,
)
from models.weights.quiet import quiet_libraries
from models.weights.sharing import share_equal

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
    loaded: tuple[ModelInfo, ...]
    """Of each variant, as trained."""
    eos_ids: frozenset[int]
    probe: SequenceSpec
    """The fixed prompt that fingerprints are taken on."""

    def at_strength(self, number: int, strength: float) -> ModelInfo:
        """Return what answers for a variant, by its number, with its adapter scaled."""
        if strength == 1:
            return self.loaded[number]
        scaled = replace(self.probe, adapter=self.rows[number], strength=strength)
        return replace(
            self.loaded[number], strength=strength, fingerprint=fingerprint(self.engine, scaled)
        )


def load_group(
    trio: Trio,
    variants: Sequence[Variant],
    on_progress: ProgressCallback,
    like: Sequence[Group] = (),
) -> Group:
    """Load a base once, and the adapters of all variants on it.

    Called from any thread but the one that computes: that one is asked for a step at a time, and
    serves others in between. What is fetched and what tokenizes keeps it from nothing.

    Args:
        trio: whose variants these are.
        variants: of one base.
        on_progress: called with how far it has come.
        like: groups that were loaded before; equal weights are held once for all.

    Raises:
        WeightsError: something cannot be had, is damaged or does not fit.
    """
    quiet_libraries()
    pin = variants[0].weights.base
    folder = fetched(pin, on_progress)
    on_progress(Progress("Loading the tokenizer", 0.6))
    encoders = load_encoders(variants, on_progress)
    tokenizer = encoders[0].tokenizer
    probe, labels = (tuple(tokenizer(text)["input_ids"]) for text in (PROBE, GATE_TEXT))
    adapters = adapters_of(variants)
    rows = tuple(adapters.index(a) + 1 if (a := v.weights.adapter) else 0 for v in variants)
    on_progress(Progress("Loading the base and its adapters", 0.65))
    loaded = submit(_finite, trio, folder, pin, adapters, SequenceSpec(probe)).result()
    on_progress(Progress("Warming up", 0.8))
    engines = [group.engine for group in like]
    engine = submit(_engine, trio, pin, *loaded, SequenceSpec(probe), engines).result()
    on_progress(Progress("Checking the output head", 0.85))
    gate = submit(_choose_head, engine, rows, labels, engines).result()
    return Group(
        engine=engine,
        variants=tuple(variants),
        encoders=encoders,
        rows=rows,
        loaded=tuple(
            submit(_loaded, trio, v, gate, engine, SequenceSpec(probe, row)).result()
            for v, row in zip(variants, rows, strict=True)
        ),
        eos_ids=eos_ids(engine.model, tokenizer),
        probe=SequenceSpec(probe),
    )


def _engine(
    trio: Trio,
    pin: Pin,
    model: Any,
    carried: ActiveAdapters,
    states: Tensor,
    logits: Tensor,
    probe: SequenceSpec,
    others: Sequence[Engine],
) -> Engine:
    """Return the engine of what `_finite` loaded, checked against what the model itself says."""
    context = model.config.get_text_config().max_position_embeddings
    if trio.max_context > context:
        raise WeightsError(
            f"{trio.name} asks for a context of {trio.max_context} tokens, but {pin} was made for "
            f"{context}. Lower max_context."
        )
    replace_nf4_layers(model)
    if model.device.type == "cpu":  # a GPU's layer norm takes no weight of another type
        replace_norms(model)
        only = all(variant.weights.base == pin for variant in trio.variants)  # shared by no other
        for layer in lora_layers(model):
            layer.pack(beside=only)
    freeze_attributes(model)
    for other in others:
        share_equal(model, other.model)
    engine = Engine(model, carried)
    if _unpacks(model):
        engine.step_rows = 0  # each row is paid for in full: no guesses
    _check(engine, probe, states, logits, pin)
    return engine


def _choose_head(
    engine: Engine, rows: Sequence[int], ids: tuple[int, ...], others: Sequence[Engine]
) -> HeadGate:
    """Give an engine the head that its fixed text allows, under each of its adapters."""
    states = [engine.hidden(SequenceSpec(ids[:-1], row)) for row in rows]
    made = [other.head for other in others if isinstance(other.head, ScreenedHead)]
    engine.head, gate = choose_head(engine.model, states, torch.tensor(ids[1:]), made)
    gc.collect()  # PEFT's and transformers' own objects refer to each other
    give_back()
    return gate


@torch.inference_mode()
def fingerprint(engine: Engine, row: SequenceSpec) -> str:
    """Return a hash over the logits of one row's last position: equal weights, equal hash."""
    logits = engine.exact_head(engine.hidden(row)[-1:])
    return hashlib.sha256(logits.float().cpu().numpy().tobytes()).hexdigest()[:12]


def _finite(
    trio: Trio, folder: Path, pin: Pin, adapters: Sequence[Pin], probe: SequenceSpec
) -> tuple[Any, ActiveAdapters, Tensor, Tensor]:
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
        wide = needs_dequantized(model)
        computed_in = torch.float32 if wide else dtype
        carried = stack_adapters(model, [str(n) for n in range(len(adapters))], computed_in)
        if device.type == "cpu":
            use_q8_embedding(model, folder / BLOCKS)
        fuse_linears(
            model.eval()
        )  # before the first pass, which gives 4-bit weights the kernel's form
        if wide:
            to_float32(model)
        with torch.inference_mode():
            ids = torch.tensor([probe.ids], device=device)
            states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            logits = model(input_ids=ids, use_cache=False).logits[0]
        if states.isfinite().all():
            return model, carried, states, logits
    raise WeightsError(f"{pin} computes no finite numbers in {dtypes[-1]}.")


@torch.inference_mode()
def _check(engine: Engine, row: SequenceSpec, states: Tensor, logits: Tensor, pin: Pin) -> None:
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


def _loaded(
    trio: Trio, variant: Variant, gate: HeadGate, engine: Engine, probe: SequenceSpec
) -> ModelInfo:
    adapter, device = variant.weights.adapter, engine.shape.device
    return ModelInfo(
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

    slow = next(model.parameters()).device.type == "cpu" and not has_nf4_matmul()
    return slow and any(isinstance(layer, Linear4bit) for layer in model.modules())
