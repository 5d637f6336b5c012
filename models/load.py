"""Weights, adapters and tokenizers: from a source to memory, in 4-bit where that is asked.

All that touches files and the Hub for a model is here and in `prepare.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from models.direct import settle
from models.encode import Encoder
from models.engine import Engine
from models.errors import WeightsError
from models.four_bit import pack
from models.head import choose_head
from models.joined import join
from models.norms import replace_norms
from models.prepare import Report, base_folder
from models.quiet import quiet_libraries
from models.rows import Row
from models.stacked import StackedLora, fold
from models.types import Loaded, Memory, Pin, Precision, Progress, Variant

PROBE = "The quick brown fox jumps over the lazy dog."
GATE_TEXT = (
    "The ferry leaves at half past six, and the last bus to the harbour is gone by then. She "
    "counted the coins twice, folded the note, and wrote: the blue one costs 14.50, the green one "
    "a little less. Question: which of the two should we take? Answer: it depends on the weather, "
    "because rain makes the steep path behind the old mill slippery and slow."
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
    report(Progress("Loading the tokenizer", 0.6))
    encoders = load_encoders(variants, report)
    tokenizer = encoders[0].tokenizer
    report(Progress("Loading the base", 0.65))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, dtype = _base(folder, precision, device)
    base_bytes = _bytes(model)
    report(Progress("Loading the adapters", 0.75))
    adapters = _adapters_of(variants)
    _with_adapters(model, adapters, pin)
    carried = fold(model, [str(n) for n in range(len(adapters))], dtype)
    model.eval()
    probe = Row(tuple(tokenizer(PROBE)["input_ids"]))
    report(Progress("Warming up", 0.8))
    join(model)  # before the first pass, which turns 4-bit weights into the kernel's own form
    expected = _own_hidden(model, probe)
    pack(model)
    replace_norms(model)
    settle(model)
    engine = Engine(model, carried)
    _check(engine, probe, expected, pin)
    rows = tuple(adapters.index(a) + 1 if (a := v.source.adapter) else 0 for v in variants)
    report(Progress("Checking the output head", 0.85))
    engine.head, gate = choose_head(model, *_states(engine, rows, tokenizer))
    config = model.config.get_text_config()
    return Group(
        engine=engine,
        variants=tuple(variants),
        encoders=encoders,
        rows=rows,
        loaded=tuple(
            Loaded(
                model=str(pin),
                adapter=a.source.rsplit("/")[-1] if (a := v.source.adapter) else None,
                precision=precision,
                dtype=str(dtype).removeprefix("torch."),
                device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
                fingerprint=fingerprint(engine, replace(probe, adapter=row)),
                head=gate,
            )
            for v, row in zip(variants, rows, strict=True)
        ),
        eos_ids=_eos_ids(model, tokenizer),
        memory=Memory(
            base_bytes=base_bytes,
            adapter_bytes=sum(
                x.lora_a.nbytes + x.lora_b.nbytes
                for x in model.modules()
                if isinstance(x, StackedLora)
            ),
            head_bytes=gate.extra_bytes,
            kv_bytes_per_token=engine.shape.bytes_per_token,
        ),
        context=config.max_position_embeddings,
    )


@torch.inference_mode()
def fingerprint(engine: Engine, row: Row) -> str:
    """Return a hash over the logits of one row's last position: equal weights, equal hash."""
    logits = engine.exact_head(engine.hidden(row)[-1:])
    return hashlib.sha256(logits.float().cpu().numpy().tobytes()).hexdigest()[:12]


@torch.inference_mode()
def _own_hidden(model: Any, row: Row) -> Tensor:
    """Return what the model computes by itself, before the engine answers for it: (T, d)."""
    ids = torch.tensor([row.ids], device=model.device)
    hidden: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    return hidden


def _check(engine: Engine, row: Row, expected: Tensor, pin: Pin) -> None:
    """Refuse a model whose attention is of a kind that the engine does not know."""
    found = engine.hidden(row)
    off = (found - expected).float().norm() / expected.float().norm()
    if not off < 0.05:
        raise WeightsError(
            f"The engine does not compute what {pin} computes by itself (off by {off:.0%}): "
            f"models of the kind {engine.model.config.model_type} are not served."
        )


def _states(engine: Engine, rows: Sequence[int], tokenizer: Any) -> tuple[list[Tensor], Tensor]:
    """Return the hidden states of a fixed text under each variant, and the ids that follow."""
    ids = tuple(tokenizer(GATE_TEXT)["input_ids"])
    return [engine.hidden(Row(ids[:-1], row)) for row in rows], torch.tensor(ids[1:])


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


def load_peft(variants: Sequence[Variant], precision: Precision) -> Any:
    """Return a base with the adapters of its variants as PEFT holds them, named "0", "1", ….

    Raises:
        WeightsError: something cannot be had, is damaged or does not fit.
    """
    quiet_libraries()
    pin = variants[0].source.base
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, _ = _base(base_folder(pin, lambda progress: None), precision, device)
    return _with_adapters(model, _adapters_of(variants), pin)


def _adapters_of(variants: Sequence[Variant]) -> list[Pin]:
    """Return each adapter once, in the order of the stack."""
    return list(dict.fromkeys(a for v in variants if (a := v.source.adapter)))


def _with_adapters(model: Any, adapters: Sequence[Pin], base: Pin) -> Any:
    """Load adapters through PEFT; the model itself where there are none."""
    from peft import PeftModel

    wrapped = model
    for n, adapter in enumerate(adapters):
        folder = _adapter_folder(adapter)
        _check_base(folder, base)
        try:
            if n == 0:
                wrapped = PeftModel.from_pretrained(model, folder, adapter_name="0")
            else:
                wrapped.load_adapter(folder, adapter_name=str(n))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"The adapter in {folder} cannot be loaded: {_line(error)}"
            ) from error
    return wrapped.eval()


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


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids that end a text: the tokenizer's, and those of the generation config."""
    ids = model.generation_config.eos_token_id
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(id for id in [*listed, tokenizer.eos_token_id] if id is not None)
