"""Loads bases, as objects of transformers.

Works on local folders; only `fetch.py` downloads from the Hub.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from models.errors import WeightsError, first_line
from models.types import Pin, Precision, Variant
from models.weights.fetch import base_folder, cache_folder


def device_and_dtypes() -> tuple[torch.device, tuple[torch.dtype, ...]]:
    """Return the device, and the dtypes to try until a model computes finite numbers."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), (torch.bfloat16,)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.device("cuda"), (torch.bfloat16,)
    return torch.device("cuda"), (torch.float16, torch.float32)  # Gemma 3 overflows in float16


def load_base(folder: Path, precision: Precision, device: torch.device, dtype: torch.dtype) -> Any:
    """Load the causal language model in a folder.

    A base that was saved quantized is loaded as it was saved, whatever precision is asked for;
    `saved_precision` tells which that is.

    Raises:
        WeightsError: it is damaged or incomplete, or its architecture is unknown.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {}
    saved = saved_precision(folder)
    if precision == "nf4" and not saved:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        again = " Delete the folder: it is made again." if cache_folder() in folder.parents else ""
        raise WeightsError(
            f"The weights in {folder} cannot be loaded: {first_line(error).rstrip('.')}.{again}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{folder} lacks {len(missing)} of the model's tensors, {missing[0]} for one, which "
            "would be random. Save the base again, whole."
        )
    if saved:
        _cast(model, dtype)
    return model.eval().requires_grad_(False)


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Make a model that was saved quantized compute in a dtype, in place.

    transformers loads what is not quantized in it in the dtype in which it was saved.
    """
    from bitsandbytes.nn import Linear4bit

    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.compute_dtype = layer.weight.quant_state.dtype = dtype


def refuse_git_lfs(path: Path) -> None:
    """Refuse a pointer that Git LFS left in place of weights."""
    with path.open("rb") as file:
        if file.read(24) == b"version https://git-lfs.":
            raise WeightsError(f"{path} is a pointer of Git LFS; get the file by git lfs pull.")


def saved_precision(folder: Path) -> str:
    """Return the precision that a base was saved in: `nf4`, `fp4`, `int8`; empty if unquantized.

    Raises:
        WeightsError: it was quantized in a way that is not served.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        saved = config.get("quantization_config")
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{folder}/config.json cannot be read: {first_line(error)}") from error
    if not saved:
        return ""
    if not isinstance(saved, dict):
        raise WeightsError(f"{folder}/config.json: quantization_config is {saved!r}, no table.")
    if saved.get("load_in_4bit"):
        return str(saved.get("bnb_4bit_quant_type", "fp4"))
    if saved.get("load_in_8bit"):
        return "int8"
    raise WeightsError(
        f"The base in {folder} is quantized by {saved.get('quant_method', 'an unknown method')}; "
        "served are unquantized bases, and those that bitsandbytes saved in 4 or 8 bits."
    )


def base_context(folder: Path) -> int | None:
    """Return the number of tokens that a base was made for; None if its config does not say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder}/config.json cannot be read: {first_line(error)}") from error
    length = getattr(config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def adapters_of(variants: Sequence[Variant]) -> list[Pin]:
    """Return each adapter once, in the order in which they are loaded."""
    return list(dict.fromkeys(a for v in variants if (a := v.weights.adapter)))


def adapter_folder(adapter: Pin) -> Path:
    """Return the folder of an adapter; fetch the adapter first if needed."""
    folder = Path(adapter.source)
    return folder if folder.is_absolute() else base_folder(adapter, lambda progress: None)
