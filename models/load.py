"""Weights, adapters and tokenizers: from a source to memory, in 4-bit where that is asked.

All that touches files and the Hub for a model is here and in `prepare.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from models.encode import Encoder
from models.engine import Engine, Row
from models.errors import WeightsError
from models.prepare import Report, base_folder
from models.quiet import quiet_libraries
from models.stacked import StackedLora, fold
from models.types import Loaded, Memory, Pin, Precision, Progress, Variant

PROBE = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True, slots=True)
class Group:
    """The variants that share a base, ready to answer as one batch."""

    engine: Engine
    variants: tuple[Variant, ...]
    encoders: tuple[Encoder, ...]
    rows: tuple[int, ...]
    """For each variant, its entry in the stack of adapters."""
    loaded: tuple[Loaded, ...]
    eos_ids: frozenset[int]
    memory: Memory
    context: int
    """Tokens that the base was made for."""


def load_encoders(variants: Sequence[Variant], report: Report) -> tuple[Encoder, ...]:
    """Load the tokenizer of variants that share a base; no weights are read."""
    base = variants[0].source.base
    tokenizer = _tokenizer(base_folder(base, report))
    return tuple(Encoder(v, tokenizer, _template(v, tokenizer)) for v in variants)


def load_group(variants: Sequence[Variant], precision: Precision, report: Report) -> Group:
    """Load a base once, and the adapters of all variants on it.

    Raises:
        WeightsError: something cannot be had, is damaged or does not fit.
    """
    quiet_libraries()
    pin = variants[0].source.base
    folder = base_folder(pin, report)
    report(Progress("Loading the tokenizer", 0.7))
    encoders = load_encoders(variants, report)
    report(Progress("Loading the base", 0.75))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, dtype = _base(folder, precision, device)
    base_bytes = _bytes(model)
    report(Progress("Loading the adapters", 0.85))
    adapters = list(dict.fromkeys(a for v in variants if (a := v.source.adapter)))
    layers = _adapters(model, adapters, pin, dtype)
    tokenizer = encoders[0].tokenizer
    engine = Engine(model, layers, tokenizer.pad_token_id or 0)
    rows = tuple(adapters.index(a) + 1 if (a := v.source.adapter) else 0 for v in variants)
    report(Progress("Warming up", 0.9))
    probe = tuple(tokenizer(PROBE)["input_ids"])
    held = {
        "model": str(pin),
        "precision": precision,
        "dtype": str(dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }
    loaded = tuple(
        Loaded(
            adapter=a.source.rsplit("/")[-1] if (a := v.source.adapter) else None,
            fingerprint=fingerprint(engine, Row(probe, row)),
            **held,
        )
        for v, row in zip(variants, rows, strict=True)
    )
    config = model.config.get_text_config()
    memory = Memory(
        base_bytes,
        sum(x.stack_a.nbytes + x.stack_b.nbytes for x in layers),
        _kv_bytes(config, dtype),
    )
    return Group(
        engine,
        tuple(variants),
        encoders,
        rows,
        loaded,
        _eos_ids(model, tokenizer),
        memory,
        config.max_position_embeddings,
    )


@torch.inference_mode()
def fingerprint(engine: Engine, row: Row) -> str:
    """Return a hash over the logits of one row's last position: equal weights, equal hash."""
    for layer in engine.layers:
        layer.select(torch.tensor([row.adapter], device=engine.model.device))
    ids = torch.tensor([row.ids], device=engine.model.device)
    logits = engine.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
    return hashlib.sha256(logits.float().cpu().numpy().tobytes()).hexdigest()[:12]


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, use_fast=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"The tokenizer in {folder} cannot be read: {_line(error)}") from error


def _template(variant: Variant, tokenizer: Any) -> str | None:
    """Return the chat template: the adapter's own first, else the base's."""
    adapter = variant.source.adapter
    if adapter:
        path = _adapter_folder(adapter) / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    template: str | None = tokenizer.chat_template
    return template


def _base(folder: Path, precision: Precision, device: torch.device) -> tuple[Any, torch.dtype]:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # No float16: Gemma 3 overflows in it. A card without bfloat16 computes in float32.
    half = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    dtype = torch.bfloat16 if half else torch.float32
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            quantization_config=four_bit if precision == "nf4" else None,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"The weights in {folder} cannot be loaded: {_line(error)} "
            "A folder of the cache can be deleted; it is made again."
        ) from error
    return model.eval(), dtype


def _adapters(
    model: Any, adapters: Sequence[Pin], base: Pin, dtype: torch.dtype
) -> list[StackedLora]:
    """Load adapters through PEFT and fold them into one stack, in place."""
    from peft import PeftModel

    wrapped: Any = None
    for n, adapter in enumerate(adapters):
        folder = _adapter_folder(adapter)
        _check_base(folder, base)
        try:
            if wrapped is None:
                wrapped = PeftModel.from_pretrained(model, folder, adapter_name=str(n))
            else:
                wrapped.load_adapter(folder, adapter_name=str(n))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"The adapter in {folder} cannot be loaded: {_line(error)}"
            ) from error
    if wrapped is None:
        return []
    layers = fold(model, [str(n) for n in range(len(adapters))], dtype)
    model.eval()
    return layers


def _adapter_folder(adapter: Pin) -> Path:
    folder = Path(adapter.source)
    if folder.is_absolute():
        if not (folder / "adapter_config.json").is_file():
            raise WeightsError(f"{folder} holds no adapter: there is no adapter_config.json in it.")
        return folder
    return base_folder(adapter, lambda progress: None)


def _check_base(folder: Path, base: Pin) -> None:
    """Refuse an adapter that says it was trained on another base."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        trained_on = config["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder}/adapter_config.json cannot be read: {error!r}.") from error
    if trained_on not in (base.source, str(base)):
        raise WeightsError(
            f"{folder.name} was trained on {trained_on}, but its base here is {base}. "
            "Change one of them."
        )


def _line(error: Exception) -> str:
    """Return the first line of what a library says."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def _bytes(module: Any) -> int:
    """Return the bytes of a module's weights, each counted once, 4-bit scales included."""
    held = {t.data_ptr(): t.nbytes for t in [*module.parameters(), *module.buffers()]}
    for weight in module.parameters():
        if state := getattr(weight, "quant_state", None):
            held[state.absmax.data_ptr()] = state.absmax.nbytes
    return sum(held.values())


def _kv_bytes(config: Any, dtype: torch.dtype) -> int:
    heads = config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * dtype.itemsize)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end a text: the tokenizer's, and those of the generation config."""
    ids = model.generation_config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(id for id in [*listed, tokenizer.eos_token_id] if id is not None)
