"""Fits what an adapter trained whole to a base: rows of embeddings, and modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.adapter import TokenRows
from models.weights.adapter_fit import Fit, is_linear, matrix_shape


def token_rows(fit: Fit, tensors: Mapping[str, Tensor]) -> dict[str, TokenRows]:
    """Return the trained rows that differ from the base's, by module; misfits are noted.

    Args:
        fit: the base's modules.
        tensors: the (tokens, d) rows of each module.
    """
    embedding, head, tied = fit.embeddings
    ids = {path: fit.config.token_ids(path, embedding) for path in (embedding, head)}
    trained = {}
    for path in {embedding, head} - set(tensors):
        is_saved_once = tied and tensors and ids[embedding] == ids[head]
        if ids[path] and not is_saved_once:
            fit.misfits.append(f"{path} has trained tokens and no rows")
    for path, rows in tensors.items():
        module: Any = fit.modules.get(path)
        if path not in (embedding, head):
            fit.misfits.append(f"{path} has trained rows and is no embedding")
            continue
        # PEFT saves the rows of a tied head, too, which the config does not name.
        own = ids[path] or ids[embedding]
        size, width = module.weight.shape
        if tuple(rows.shape) != (len(own), width):
            fit.misfits.append(f"{path} has rows of {tuple(rows.shape)} for {len(own)} tokens")
        elif beyond := [id for id in own if not 0 <= id < size]:
            fit.misfits.append(f"token {beyond[0]} has no row in the base's {size}")
        elif not torch.equal(rows.to(module.weight), module.weight[list(own)]):
            trained[path] = TokenRows(own, rows)
    return trained


def whole_modules(
    fit: Fit, tensors: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Return the modules trained whole that differ from the base's; misfits are noted.

    Args:
        fit: the base's modules.
        tensors: the parameters of each module, by name.
    """
    embedding, head, tied = fit.embeddings
    config, saved = fit.config, dict[str, dict[str, Tensor]]()
    refused = list[str]()
    for path, module in fit.modules.items():
        if config.saves(path) and path not in tensors:
            if _is_served_whole(fit, path, module):
                fit.misfits.append(f"{path} is to be saved whole and has no tensors")
            else:
                fit.misfits.append(f"{path} is {type(module).__name__}, which is not served whole")
                refused.append(f"{path}.")
    for path, own in tensors.items():
        if path.startswith(tuple(refused)):
            continue
        saved_module = fit.modules.get(path)
        if saved_module is None or not config.saves(path):
            fit.misfits.append(f"{path}.{next(iter(own))} belongs to no module of the base")
        elif misfit := _module_misfit(fit, path, saved_module, own):
            fit.misfits.append(misfit)
        elif not _are_equal(saved_module, own):
            saved[path] = dict(own)
    ties = config.values.get("ensure_weight_tying") and _is_tied_by_peft(embedding)
    if tied and ties and embedding in saved:
        saved.setdefault(head, saved[embedding])
    return saved


def saved_base_layers(
    fit: Fit, tensors: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """Return the base's own layers that PEFT saved and that differ from it; misfits are noted.

    PEFT saves them beside trained embeddings and heads, and loads them into the base: into both of
    two that are tied.

    Args:
        fit: the base's modules.
        tensors: the parameters of each module, by name.
    """
    embedding, head, tied = fit.embeddings
    saved = dict[str, dict[str, Tensor]]()
    for path, own in tensors.items():
        module = fit.modules.get(path)
        if module is None or path not in (embedding, head):
            fit.misfits.append(f"{path}.{next(iter(own))} belongs to no module of the base")
        elif misfit := _module_misfit(fit, path, module, own):
            fit.misfits.append(misfit)
        elif not _are_equal(module, own):
            saved[path] = dict(own)
    if tied and saved:
        first = next(iter(saved.values()))
        if any(not torch.equal(own["weight"], first["weight"]) for own in saved.values()):
            fit.misfits.append(f"{embedding} and {head} are tied, and saved as two layers")
        saved = {embedding: first, head: first}
    return saved


def _is_tied_by_peft(embedding: str) -> bool:
    """Whether PEFT ties an output head to an embedding trained whole; it goes by the name."""
    from peft.utils.other import EMBEDDING_LAYER_NAMES

    return embedding.rpartition(".")[2] in EMBEDDING_LAYER_NAMES


def _is_served_whole(fit: Fit, path: str, module: nn.Module) -> bool:
    is_norm = type(module).__name__.endswith("Norm")
    return is_linear(module) or is_norm or path in fit.embeddings[:2]


def _module_misfit(fit: Fit, path: str, module: nn.Module, own: Mapping[str, Tensor]) -> str | None:
    """Return what is wrong with the parameters of a module trained whole; None if they fit."""
    if not _is_served_whole(fit, path, module):
        return f"{path} is {type(module).__name__}, which is not served whole"
    names = {name for name, _ in module.named_parameters(recurse=False)}
    if own.keys() != names:
        return f"{path} has {' and '.join(own)} and needs {' and '.join(sorted(names))}"
    for name, tensor in own.items():
        is_matrix = name == "weight" and tensor.ndim == 2
        shape = matrix_shape(module) if is_matrix else tensor.shape
        if is_matrix and hasattr(module, "nf"):  # whose weight is (in, out)
            shape = shape[::-1]
        if name == "weight" and path in fit.embeddings[:2] and len(tensor) > shape[0]:
            added = len(tensor) - shape[0]
            return f"it has {added} added tokens, for which the base's {path} has no row"
        if tuple(tensor.shape) != tuple(shape) or tensor.numel() != _count(module, name):
            return f"{path}.{name} is {tuple(tensor.shape)} and the base's {tuple(shape)}"
    return None


def _are_equal(module: Any, own: Mapping[str, Tensor]) -> bool:
    """Whether the parameters are the base's own, perhaps rounded to the adapter's dtype."""
    pairs = [(tensor, getattr(module, name)) for name, tensor in own.items()]
    return all(
        base.shape == tensor.shape
        and (torch.equal(tensor.to(base), base) or torch.equal(base.to(tensor), tensor))
        for tensor, base in pairs
    )


def _count(module: Any, name: str) -> int:
    parameter = getattr(module, name)
    if getattr(parameter, "quant_state", None) is not None:
        return int(parameter.quant_state.shape.numel())
    return int(parameter.numel())
