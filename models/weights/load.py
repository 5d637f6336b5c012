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

from models.cache.folder import cache_folder
from models.engine.layers.dequantized import unpacked_linear
from models.errors import WeightsError, first_line
from models.types import Pin, Precision, Variant
from models.weights.fetch import base_folder
from models.weights.json_object import read_object


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
    refuse_own_code(folder / "config.json")
    for file in folder.glob("*.safetensors"):
        refuse_git_lfs(file)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        again = " Delete the folder: it is made again." if cache_folder() in folder.parents else ""
        what = first_line(error).rstrip(".")
        if "ignore_mismatched_sizes" in str(error):
            what = "its tensors have other shapes than its config.json says"
        raise WeightsError(f"The weights in {folder} cannot be loaded: {what}.{again}") from error
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

    transformers loads what is not quantized in it in the dtype in which it was saved. A quantized
    output head is unpacked, since single rows of it are needed.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    head = model.get_output_embeddings()
    if isinstance(head, Linear4bit | Linear8bitLt):
        model.set_output_embeddings(unpacked_linear(head, dtype))
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            layer.compute_dtype = layer.weight.quant_state.dtype = dtype


def refuse_own_code(config: Path) -> None:
    """Refuse a model whose config names Python code beside it, if transformers has none for it."""
    from transformers import AutoConfig

    values = read_object(config)
    if not values.get("auto_map"):
        return
    kind = str(values.get("model_type"))
    try:
        AutoConfig.for_model(kind)
    except ValueError as error:
        raise WeightsError(
            f"{config}: models of the kind {kind} need Python code of their own (auto_map), which "
            "is not run here. Choose a base of a kind that transformers knows."
        ) from error


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
    """Return the number of tokens that a base was made for; None if its config does not say.

    Of a base whose angles of positions depend on the text's length, it is the shorter one.
    """
    from transformers import AutoConfig

    refuse_own_code(folder / "config.json")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder}/config.json cannot be read: {first_line(error)}") from error
    lengths = [getattr(config, "max_position_embeddings", None)]
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):
        # Longer texts turn all positions by other angles, those in the KV cache, too.
        lengths += [rope.get("original_max_position_embeddings")]
        lengths += [getattr(config, "original_max_position_embeddings", None)]
    return min((n for n in lengths if isinstance(n, int) and n > 0), default=None)


def adapters_of(variants: Sequence[Variant]) -> list[Pin]:
    """Return each adapter once, in the order in which they are loaded."""
    return list(dict.fromkeys(a for v in variants if (a := v.weights.adapter)))


def adapter_folder(adapter: Pin) -> Path:
    """Return the folder of an adapter; fetch the adapter first if needed."""
    folder = Path(adapter.source)
    return folder if folder.is_absolute() else base_folder(adapter, lambda progress: None)
