"""Reads an adapter's tensors, and fits them to the modules of a base, without touching the base.

PEFT would wrap the base in its own layers and load what it finds: it says nothing of tensors that
fit no layer or of layers without tensors, and some kinds change the base. Here every tensor lands
in a module and every module that the config names gets its tensors, or the adapter is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.engine.layers.adapter import Adapter, LoraUpdate, TokenRows
from models.engine.layers.dequantized import weight_values
from models.errors import WeightsError, first_line
from models.weights.adapter_config import read_adapter_config
from models.weights.adapter_fit import Fit, embeddings_of, is_linear, matrix_shape
from models.weights.load import refuse_git_lfs
from models.weights.trained_modules import saved_base_layers, token_rows, whole_modules

FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SUFFIXES = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".token_adapter.trainable_tokens_delta": "rows",
    ".trainable_tokens_delta": "rows",
}
"""How PEFT names the tensors of a module, and what they are."""
_OLD_LAYOUT = {
    "language_model.model": "model.language_model",
    "language_model.lm_head": "lm_head",
}
"""Paths in models that see images, and what they are called since transformers 4.52."""
_BASE_LAYERS = (".token_adapter.base_layer", ".base_layer", ".original_module")
"""Where PEFT saves the base's own weights, if it saves those of an embedding or head, too."""


def read_adapter(folder: Path, model: Any) -> Adapter:
    """Read the adapter in a folder, for a base that is loaded.

    Args:
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        model: the base as transformers loaded it; it is only looked at.

    Raises:
        WeightsError: a file is missing or damaged, the kind is not served, or a tensor fits no
            module of the base, or a module that the config names has no tensor.
    """
    config = read_adapter_config(folder)
    modules = dict(model.named_modules())
    fit = Fit(config, modules, embeddings_of(model, modules))
    saved = _by_kind(fit, _tensors(folder))
    base_layers = saved_base_layers(fit, saved.base_layers)
    trained_modules = whole_modules(fit, saved.whole)
    updates, trained_rows = _lora_updates(fit, saved.lora), token_rows(fit, saved.rows)
    fit.refuse_misfits()
    embedding, head, tied = fit.embeddings
    if tied and embedding in trained_rows and head not in trained_modules:
        trained_rows.setdefault(head, trained_rows[embedding])
    changed_modules = base_layers | trained_modules
    if update := updates.pop(embedding, None):
        base_layer = changed_modules.get(embedding)
        changed_modules[embedding] = _updated_embedding(model, base_layer, update)
    return Adapter(updates, *_merged_rows(trained_rows, changed_modules))


class _SavedTensors(NamedTuple):
    """The tensors of an adapter's file, by module path, and by the names of their parameters."""

    lora: Mapping[str, Mapping[str, Tensor]]
    rows: Mapping[str, Tensor]
    whole: Mapping[str, Mapping[str, Tensor]]
    """Modules that were trained whole."""
    base_layers: Mapping[str, Mapping[str, Tensor]]
    """The base's own layers, which PEFT saves beside trained embeddings and heads."""


def _by_kind(fit: Fit, tensors: Mapping[str, Tensor]) -> _SavedTensors:
    """Divide tensors by what they are; what belongs to no module, or is not finite, is noted."""
    lora, whole, base_layers = (defaultdict[str, dict[str, Tensor]](dict) for _ in range(3))
    rows: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        path, kind = _place(key, fit.modules)
        if path is None or not torch.isfinite(tensor).all():
            what = "belongs to no module" if path is None else "is not finite"
            fit.misfits.append(f"{key} {what}")
        elif kind == "rows":
            rows[path] = tensor
        elif kind in ("a", "b", "magnitude"):
            lora[path][kind] = tensor
        elif module := _base_layer_of(fit, path):
            base_layers[module][kind] = tensor
        else:
            whole[path.removesuffix(".modules_to_save")][kind] = tensor
    return _SavedTensors(lora, rows, whole, base_layers)


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / FILE
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise WeightsError(
            f"{folder.name} has no {FILE}"
            + (", only adapter_model.bin, a pickle, which can run code. Save it again with PEFT "
               "(save_pretrained), which writes safetensors." if pickled
               else ": the adapter's weights are not there.")
        )  # fmt: skip
    refuse_git_lfs(path)
    try:
        return {
            # torch asks no 8-bit float whether it is finite.
            key: tensor.float() if tensor.dtype.itemsize == 1 else tensor
            for key, tensor in load_file(path).items()
        }
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"The adapter in {folder} cannot be loaded: {first_line(error)}"
        ) from error


def _place(key: str, modules: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the module path and the kind of a tensor; None if the key is not one of PEFT's."""
    if not key.startswith(_PREFIX):
        return None, ""
    path = key.removeprefix(_PREFIX)
    for old, new in _OLD_LAYOUT.items():
        if path.startswith(f"{old}.") and old not in modules and new in modules:
            path = path.replace(old, new, 1)
    for suffix, kind in _SUFFIXES.items():
        if path.endswith(suffix):
            return path.removesuffix(suffix), kind
    module, _, parameter = path.rpartition(".")
    return module, parameter


def _base_layer_of(fit: Fit, path: str) -> str:
    """Return the module whose base's weights PEFT saved under a path; empty if it is none."""
    if path in fit.embeddings[:2] and not fit.config.saves(path):
        return path
    return next((path.removesuffix(end) for end in _BASE_LAYERS if path.endswith(end)), "")


def _merged_rows(
    rows: Mapping[str, TokenRows], modules: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, TokenRows], dict[str, Mapping[str, Tensor]]]:
    """Return trained rows and whole modules, with the rows of whole modules written into these."""
    merged = dict(modules)
    for path in rows.keys() & modules.keys():
        weight = modules[path]["weight"].clone()
        weight[list(rows[path].ids)] = rows[path].rows.to(weight)
        merged[path] = {**modules[path], "weight": weight}
    return {path: rows[path] for path in rows.keys() - modules.keys()}, merged


def _lora_updates(fit: Fit, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, LoraUpdate]:
    embedding, head, tied = fit.embeddings
    config = fit.config
    linear = [path for path, module in fit.modules.items() if is_linear(module)]
    wanted = config.targets(fit.modules, [path for path in linear if path != head])
    if tied and embedding in wanted and config.values.get("ensure_weight_tying"):
        wanted.add(head)
    dora = bool(config.values.get("use_dora"))
    if dora and (outer := [path for path in (embedding, head) if path in tensors]):
        raise WeightsError(f"The adapter {config.name} is DoRA on {outer[0]}, which is not served.")
    updates = {}
    for path, parts in tensors.items():
        if misfit := _lora_misfit(fit, path, parts, path in wanted, dora):
            fit.misfits.append(misfit)
            continue
        scaling = config.lora_scaling(path)
        update = LoraUpdate(parts["a"], parts["b"], scaling, parts.get("magnitude"))
        if not _is_zero(update, fit.modules[path]):
            updates[path] = update
    for path in sorted(wanted - set(tensors)):
        fit.misfits.append(f"{path} is a target and has no tensors")
    return updates


def _updated_embedding(
    model: Any, saved: Mapping[str, Tensor] | None, update: LoraUpdate
) -> dict[str, Tensor]:
    """Return the parameters of an embedding with its update, which PEFT keeps transposed.

    It takes as much memory as one that was trained whole, and no further kind of module.
    """
    weight = saved["weight"] if saved else model.get_input_embeddings().weight.detach()
    change = update.scaling * (update.b.float() @ update.a.float()).T
    return {"weight": (weight.float() + change.to(weight.device)).to(weight.dtype)}


def _is_zero(update: LoraUpdate, module: Any) -> bool:
    """Whether an update leaves its layer as it is, within the rounding of its numbers."""
    a, b = update.a.double(), update.b.double()
    product = ((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt()  # |B · A|, without computing it
    if product > 1e-6 * a.norm() * b.norm():
        return False
    if update.magnitude is None:
        return True
    lengths = torch.linalg.vector_norm(weight_values(module).float(), dim=1)
    rounding = 2 * torch.finfo(torch.bfloat16).eps  # PEFT computes them in the base's dtype
    return torch.allclose(update.magnitude.to(lengths), lengths, rtol=rounding)


def _lora_misfit(
    fit: Fit, path: str, parts: Mapping[str, Tensor], wanted: bool, dora: bool
) -> str | None:
    """Return what is wrong with the tensors of one module's update; None if they fit."""
    module: Any = fit.modules.get(path)
    if module is None:
        return f"the base has no {path}"
    if not wanted:
        return f"{path} has tensors and is no target"
    is_embedding = path == fit.embeddings.embedding
    if not (is_linear(module) or is_embedding):
        return f"{path} is {type(module).__name__}, no linear layer"
    needed = {"a", "b", "magnitude"} if dora else {"a", "b"}
    if parts.keys() != needed:
        has = " and ".join(sorted(parts))
        return f"{path} has {has} and needs {' and '.join(sorted(needed))}"
    rank, (height, width) = fit.config.rank(path), matrix_shape(module)
    if is_embedding:
        height, width = width, height
    shapes = {"a": (rank, width), "b": (height, rank), "magnitude": (height,)}
    for name, tensor in parts.items():
        if tuple(tensor.shape) != shapes[name]:
            return f"{path} has {name} of {tuple(tensor.shape)} and needs {shapes[name]}"
    return None


def changes_nothing(adapter: Adapter) -> bool:
    """Whether a base with this adapter computes what it computes alone.

    `read_adapter` keeps no update that is zero, and no rows or modules that are the base's own.
    """
    return not (adapter.lora or adapter.token_rows or adapter.modules)
