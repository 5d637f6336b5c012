"""Checks that an adapter's base is the base, and that loading adapters did not change it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.engine.layers.adapter import Adapter
from models.engine.layers.multi_lora import MultiLoraLinear
from models.engine.layers.tuned_modules import TunedModule
from models.errors import WeightsError
from models.types import Pin
from models.weights.adapter_config import AdapterConfig


def base_digest(model: nn.Module, embedding_digest: str = "") -> str:
    """Return a hash over every tensor that answers for the base, adapters or not.

    The layers that hold adapters are looked through: what they hold for the base counts under the
    name that it has without adapters. Scales of 4-bit weights count, too.

    Args:
        model: the base.
        embedding_digest: the hash of its embedding, if that need not be read.
    """
    tensors = sorted(_base_tensors(model, ""), key=lambda pair: pair[0])
    distinct = {_memory(tensor): tensor for _, tensor in tensors}  # an embedding may be the head
    digests: dict[tuple[Any, ...], bytes] = {}
    if embedding_digest:
        embedding = _memory(cast(Any, model).get_input_embeddings().weight)
        digests[embedding] = bytes.fromhex(embedding_digest)
        del distinct[embedding]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing does not hold the GIL
        digests |= zip(distinct, pool.map(tensor_digest, distinct.values()), strict=True)
    total = hashlib.sha256()
    for name, tensor in tensors:
        shape = f"{name} {tensor.dtype} {tuple(tensor.shape)} "
        total.update(shape.encode() + digests[_memory(tensor)])
    return total.hexdigest()


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return what equal views of the same memory have in common."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device


def adapter_digest(adapter: Adapter) -> str:
    """Return a hash over everything that an adapter changes."""
    total = hashlib.sha256()
    for path, update in sorted(adapter.lora.items()):
        total.update(f"{path} {update.scaling!r}".encode())
        for tensor in (update.a, update.b, update.magnitude):
            total.update(b"" if tensor is None else tensor_digest(tensor))
    for path, rows in sorted(adapter.token_rows.items()):
        total.update(f"{path} {rows.ids}".encode() + tensor_digest(rows.rows))
    for path, module in sorted(adapter.modules.items()):
        for name, tensor in sorted(module.items()):
            total.update(f"{path}.{name}".encode() + tensor_digest(tensor))
    return total.hexdigest()


def _base_tensors(module: nn.Module, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(module, MultiLoraLinear | TunedModule):
        yield from _base_tensors(module.base, path)
        return
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        if tensor is None:
            continue
        yield f"{path}{name}", tensor
        if (scales := getattr(tensor, "SCB", None)) is not None:  # of 8-bit weights
            yield f"{path}{name}.SCB", scales
        state, at = getattr(tensor, "quant_state", None), f"{path}{name}"
        while state is not None:  # the scales may have scales of their own, and an offset
            for part in ("absmax", "code", "offset"):
                if (scales := getattr(state, part, None)) is not None:
                    yield f"{at}.{part}", torch.as_tensor(scales)
            state, at = state.state2, f"{at}.state2"
    for name, child in module._modules.items():
        if child is not None:
            yield from _base_tensors(child, f"{path}{name}.")


def tensor_digest(tensor: Tensor) -> bytes:
    """Return the SHA-256 of a tensor's bytes."""
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(data.numpy().data).digest()


def check_trained_on(config: AdapterConfig, base: Pin, folder: Path) -> None:
    """Refuse an adapter that was trained on another base, or on one that cannot be told.

    A folder named in the adapter's config is the base if it holds the same weights.

    Args:
        config: the adapter's config.
        base: the base that it is to be served on.
        folder: where that base is.

    Raises:
        WeightsError: the config names another base, or none.
    """
    cure = (
        "If these are the same weights, write same_base = true beside adapter; else change one of "
        "them."
    )
    trained_on = config.base
    if not trained_on:
        raise WeightsError(
            f"The adapter {config.name} does not say which base it was trained on. {cure}"
        )
    names = (base.source, str(base))
    if trained_on in names:
        return
    if not Path(base.source).is_absolute() and trained_on.casefold() in map(str.casefold, names):
        return  # the Hub's names have no case
    other = Path(trained_on).expanduser()
    if (other / "config.json").is_file() and (
        other.resolve() == folder.resolve() or _same_weights(other, folder)
    ):
        return
    raise WeightsError(
        f"{config.name} was trained on {trained_on}, but its base here is {base}. {cure}"
    )


def _same_weights(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same weights and config, in files of the same names."""
    own, theirs = (sorted(path.glob("*.safetensors")) for path in (folder, other))
    names = [[path.name for path in files] for files in (own, theirs)]
    sizes = [[path.stat().st_size for path in files] for files in (own, theirs)]
    if not own or names[0] != names[1] or sizes[0] != sizes[1]:
        return False
    if _shape_of(folder) != _shape_of(other):
        return False
    return all(_file_digest(a) == _file_digest(b) for a, b in zip(own, theirs, strict=True))


def _shape_of(folder: Path) -> dict[str, Any]:
    """Return a base's config without what differs from one saving to the next."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    saved = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")
    return {key: value for key, value in config.items() if key not in saved}


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
