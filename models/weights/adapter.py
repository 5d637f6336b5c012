"""Reads an adapter's tensors, and fits them to the modules of a base, without touching the base.

PEFT would wrap the base in its own layers and load what it finds: it says nothing of tensors that
fit no layer or of layers without tensors, and some kinds change the base. Here every tensor lands
in a module and every module that the config names gets its tensors, or the adapter is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.engine.layers.adapter import Adapter, LoraUpdate, TokenRows
from models.engine.layers.dequantized import weight_values
from models.errors import WeightsError, first_line
from models.weights.adapter_config import AdapterConfig, read_adapter_config

FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SUFFIXES = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".token_adapter.trainable_tokens_delta": "rows",
    ".trainable_tokens_delta": "rows",
}
"""How PEFT names the tensors of a module, and what they are."""
_SHOWN = 3
"""Number of misfits that an error lists."""


@dataclass(slots=True)
class _Fit:
    """The modules of a base, and what is wrong with an adapter's tensors for them."""

    config: AdapterConfig
    modules: Mapping[str, nn.Module]
    misfits: list[str] = field(default_factory=list)

    def refuse_misfits(self) -> None:
        """Raise an error that lists the misfits, if there are any."""
        if not self.misfits:
            return
        more = len(self.misfits) - _SHOWN
        listed = "; ".join(self.misfits[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise WeightsError(
            f"The adapter {self.config.name} does not fit its base: {listed}. It would answer as "
            "the base, or as part of an adapter. Save it again, whole, from this base, or merge "
            "what is not served (merge_and_unload)."
        )


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
    fit = _Fit(config, dict(model.named_modules()))
    lora: dict[str, dict[str, Tensor]] = defaultdict(dict)
    rows: dict[str, Tensor] = {}
    whole: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in _tensors(folder).items():
        path, kind = _place(key)
        if path is None or not torch.isfinite(tensor).all():
            fit.misfits.append(
                f"{key} " + ("belongs to no module" if path is None else "is not finite")
            )
        elif kind == "rows":
            rows[path] = tensor
        elif kind in ("a", "b", "magnitude"):
            lora[path][kind] = tensor
        else:
            whole[path.removesuffix(".base_layer")][kind] = tensor
    embeddings = _embeddings(model, fit.modules)
    adapter = Adapter(
        _lora_updates(fit, lora, embeddings),
        _token_rows(fit, rows, embeddings),
        _whole_modules(fit, whole, embeddings),
    )
    fit.refuse_misfits()
    return adapter


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
    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"The adapter in {folder} cannot be loaded: {first_line(error)}"
        ) from error


def _place(key: str) -> tuple[str | None, str]:
    """Return the module path and the kind of a tensor; None if the key is not one of PEFT's."""
    if not key.startswith(_PREFIX):
        return None, ""
    path = key.removeprefix(_PREFIX)
    for suffix, kind in _SUFFIXES.items():
        if path.endswith(suffix):
            return path.removesuffix(suffix), kind
    module, _, parameter = path.rpartition(".")
    return module, parameter


def _embeddings(model: Any, modules: Mapping[str, nn.Module]) -> tuple[str, str, bool]:
    """Return the paths of embedding and output head, and whether they share their weights."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    paths = {id(module): path for path, module in modules.items()}
    tied = embedding.weight.data_ptr() == head.weight.data_ptr()
    return paths[id(embedding)], paths[id(head)], tied


def _lora_updates(
    fit: _Fit, tensors: Mapping[str, Mapping[str, Tensor]], embeddings: tuple[str, str, bool]
) -> dict[str, LoraUpdate]:
    embedding, head, _ = embeddings
    config = fit.config
    linear = [path for path, module in fit.modules.items() if _is_linear(module)]
    wanted = config.targets(fit.modules, [path for path in linear if path != head])
    if embedding in wanted:
        raise WeightsError(
            f"The adapter {config.name} has a low-rank update of {embedding}; served are those of "
            "linear layers. Train rows of it (trainable_token_indices), or all (modules_to_save)."
        )
    dora = bool(config.values.get("use_dora"))
    if dora and head in tensors:
        raise WeightsError(f"The adapter {config.name} is DoRA on {head}, which is not served.")
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
    fit: _Fit, path: str, parts: Mapping[str, Tensor], wanted: bool, dora: bool
) -> str | None:
    """Return what is wrong with the tensors of one module's update; None if they fit."""
    module: Any = fit.modules.get(path)
    if module is None:
        return f"the base has no {path}"
    if not wanted:
        return f"{path} has tensors and is no target"
    if not _is_linear(module):
        return f"{path} is {type(module).__name__}, no linear layer"
    needed = {"a", "b", "magnitude"} if dora else {"a", "b"}
    if parts.keys() != needed:
        has = " and ".join(sorted(parts))
        return f"{path} has {has} and needs {' and '.join(sorted(needed))}"
    rank, (height, width) = fit.config.rank(path), _shape(module)
    shapes = {"a": (rank, width), "b": (height, rank), "magnitude": (height,)}
    for name, tensor in parts.items():
        if tuple(tensor.shape) != shapes[name]:
            return f"{path} has {name} of {tuple(tensor.shape)} and needs {shapes[name]}"
    return None


def _token_rows(
    fit: _Fit, tensors: Mapping[str, Tensor], embeddings: tuple[str, str, bool]
) -> dict[str, TokenRows]:
    embedding, head, _ = embeddings
    found = {}
    for path in {embedding, head} - set(tensors):
        if fit.config.token_ids(path, embedding):
            fit.misfits.append(f"{path} has trained tokens and no rows")
    for path, rows in tensors.items():
        module: Any = fit.modules.get(path)
        # PEFT saves the rows of a tied head, too, which the config does not name.
        ids = fit.config.token_ids(path, embedding) or fit.config.token_ids(embedding, embedding)
        if path not in (embedding, head):
            fit.misfits.append(f"{path} has trained rows and is no embedding")
            continue
        size, width = module.weight.shape
        if tuple(rows.shape) != (len(ids), width):
            fit.misfits.append(f"{path} has rows of {tuple(rows.shape)} for {len(ids)} tokens")
        elif beyond := [id for id in ids if not 0 <= id < size]:
            fit.misfits.append(f"token {beyond[0]} has no row in the base's {size}")
        elif not torch.equal(rows.to(module.weight), module.weight[list(ids)]):
            found[path] = TokenRows(ids, rows)
    return found


def _whole_modules(
    fit: _Fit, tensors: Mapping[str, Mapping[str, Tensor]], embeddings: tuple[str, str, bool]
) -> dict[str, dict[str, Tensor]]:
    embedding, head, tied = embeddings
    config, saved = fit.config, dict[str, dict[str, Tensor]]()
    for path, module in fit.modules.items():
        if config.saves(path) and path not in tensors:
            has_parts = any(own.startswith(f"{path}.") for own in tensors)
            what = f"is {type(module).__name__}, which is not served whole"
            fit.misfits.append(
                f"{path} {what if has_parts else 'is to be saved whole and has no tensors'}"
            )
    for path, own in tensors.items():
        saved_module = fit.modules.get(path)
        if saved_module is None or not (config.saves(path) or path in (embedding, head)):
            fit.misfits.append(f"{path}.{next(iter(own))} belongs to no module of the base")
        elif misfit := _module_misfit(path, saved_module, own, path in (embedding, head)):
            fit.misfits.append(misfit)
        elif not _are_equal(saved_module, own):
            saved[path] = dict(own)
    ties = config.values.get("ensure_weight_tying") and _is_tied_by_peft(embedding)
    if tied and ties and embedding in saved:
        saved.setdefault(head, saved[embedding])
    return saved


def _is_tied_by_peft(embedding: str) -> bool:
    """Whether PEFT ties an output head to an embedding trained whole; it goes by the name."""
    from peft.utils.other import EMBEDDING_LAYER_NAMES

    return embedding.rpartition(".")[2] in EMBEDDING_LAYER_NAMES


def _module_misfit(
    path: str, module: nn.Module, own: Mapping[str, Tensor], is_embedding: bool
) -> str | None:
    """Return what is wrong with the parameters of a module trained whole; None if they fit."""
    if not (_is_linear(module) or is_embedding or type(module).__name__.endswith("Norm")):
        return f"{path} is {type(module).__name__}, which is not served whole"
    names = {name for name, _ in module.named_parameters(recurse=False)}
    if own.keys() != names:
        return f"{path} has {' and '.join(own)} and needs {' and '.join(sorted(names))}"
    for name, tensor in own.items():
        is_matrix = name == "weight" and tensor.ndim == 2
        shape = _shape(module) if is_matrix else tensor.shape
        if is_matrix and hasattr(module, "nf"):  # whose weight is (in, out)
            shape = shape[::-1]
        if name == "weight" and is_embedding and len(tensor) > shape[0]:
            added = len(tensor) - shape[0]
            return f"it has {added} added tokens, for which the base's {path} has no row"
        if tuple(tensor.shape) != tuple(shape) or tensor.numel() != _count(module, name):
            return f"{path}.{name} is {tuple(tensor.shape)} and the base's {tuple(shape)}"
    return None


def _are_equal(module: Any, own: Mapping[str, Tensor]) -> bool:
    """Whether the parameters are the base's own, which PEFT saves, too, for some embeddings."""
    pairs = [(tensor, getattr(module, name)) for name, tensor in own.items()]
    return all(
        base.shape == tensor.shape and torch.equal(tensor.to(base), base) for tensor, base in pairs
    )


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _shape(module: Any) -> tuple[int, int]:
    """Return (out, in) of a linear layer, in 4 bits, too; (tokens, d) of an embedding."""
    if hasattr(module, "out_features"):
        return module.out_features, module.in_features
    if hasattr(module, "nf"):  # GPT-2's layer, whose weight is (in, out)
        return module.nf, module.nx
    height, width = module.weight.shape
    return height, width


def _count(module: Any, name: str) -> int:
    parameter = getattr(module, name)
    if getattr(parameter, "quant_state", None) is not None:
        return int(parameter.quant_state.shape.numel())
    return int(parameter.numel())


def changes_nothing(adapter: Adapter) -> bool:
    """Whether a base with this adapter computes what it computes alone.

    `read_adapter` keeps no update that is zero, and no rows or modules that are the base's own.
    """
    return not (adapter.lora or adapter.token_rows or adapter.modules)
