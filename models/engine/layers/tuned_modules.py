"""Modules that adapters bring whole, or whose rows they replace, beside the base's own.

Each row of a batch gets its own adapter's module, scaled as an adapter is: base + scale · (tuned −
base). What is linear in its weights (embeddings, norms, linear layers) then equals the module whose
weights are mixed so. A row of the base keeps the base's output to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from models.engine.layers.adapter import Adapter, TokenRows
from models.engine.layers.dequantized import Float32Head
from models.engine.layers.head_changes import HeadChange, LoraHead, TunedHead, TunedHeadRows
from models.engine.layers.module import HooklessModule
from models.engine.layers.multi_lora import ActiveAdapters
from models.errors import WeightsError


class TunedModule(HooklessModule):
    """A base's module, and those that adapters use in its place."""

    def __init__(
        self, base: nn.Module, tuned: Mapping[int, nn.Module], active: ActiveAdapters
    ) -> None:
        """Hold the modules of adapters by their numbers, which begin with 1."""
        super().__init__()
        self.base = base
        self.numbers = list(tuned)
        self.tuned = nn.ModuleList(tuned.values())
        self.active = active

    @property
    def weight(self) -> Any:
        """The base's weight, which other parts of a model may look at."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, …) → (B, T, …)."""
        y: Tensor = self.base(x)
        rows = self.active.rows
        if rows.all_base:
            return y
        for number, module in zip(self.numbers, self.tuned, strict=True):
            scale = rows.of_adapters[:, :, number - 1].to(y.dtype)
            y = torch.lerp(y, module(x).to(y.dtype), scale.view(-1, *[1] * (y.ndim - 1)))
        return y


class TunedRows(HooklessModule):
    """An embedding with other rows for some tokens."""

    rows: Tensor
    index: Tensor
    """(V,): the row of each token; −1 for a token that keeps the base's."""

    def __init__(self, base: nn.Module, ids: Tensor, rows: Tensor, vocabulary: int) -> None:
        """Hold the base's embedding, (n,) ids and their (n, d) embeddings."""
        super().__init__()
        self._base = [base]  # in a list: a module of its own would be counted twice
        index = torch.full((vocabulary,), -1, device=ids.device)
        index[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("index", index, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) → (B, T, d)."""
        states: Tensor = self._base[0](ids)
        at = self.index[ids]
        rows = self.rows[at.clamp(min=0)].to(states.dtype)
        return torch.where((at >= 0)[..., None], rows, states)


def tuned_modules(model: nn.Module) -> list[TunedModule]:
    """Return the modules of a model that adapters bring whole."""
    return [module for module in model.modules() if isinstance(module, TunedModule)]


def tune_inner_modules(
    model: nn.Module, adapters: Sequence[Adapter], active: ActiveAdapters
) -> None:
    """Put the modules that adapters bring beside the base's, in place.

    Embedding and output head are left to `tune_embeddings`.
    """
    outer = {path for module in _embeddings(model) if (path := _path_of(model, module))}
    paths = dict.fromkeys(path for adapter in adapters for path in adapter.modules)
    for path in [path for path in paths if path not in outer]:
        base = model.get_submodule(path)
        tuned = {
            number: _with_parameters(base, adapter.modules[path], active)
            for number, adapter in enumerate(adapters, 1)
            if path in adapter.modules
        }
        model.set_submodule(path, TunedModule(base, tuned, active))


def tune_embeddings(model: Any, adapters: Sequence[Adapter], active: ActiveAdapters) -> None:
    """Put the embeddings that adapters bring beside the base's, and note their output heads.

    Called when the base's own embedding and head have their last form.

    Args:
        model: the base; its embedding is replaced in place.
        adapters: the first is number 1.
        active: takes the changes of the output head.
    """
    embedding, head = _embeddings(model)
    embedding_path, head_path = _path_of(model, embedding), _path_of(model, head)
    tied = _is_tied(embedding, head)
    tuned: dict[int, nn.Module] = {}
    changes: list[HeadChange] = []
    for number, adapter in enumerate(adapters, 1):
        whole = adapter.modules.get(embedding_path)
        rows = adapter.token_rows.get(embedding_path)
        if whole:
            weight = whole["weight"]
            everything = TokenRows(tuple(range(len(weight))), weight)
            tuned[number] = _tuned_rows(embedding, everything, active)
        elif rows:
            tuned[number] = _tuned_rows(embedding, rows, active)
        own_rows = adapter.token_rows.get(head_path) or (rows if tied else None)
        changes += _head_changes(number, adapter, head_path, own_rows, head, active)
    if tuned:
        model.set_input_embeddings(TunedModule(embedding, tuned, active))
    active.head_changes = changes


def _head_changes(
    number: int,
    adapter: Adapter,
    path: str,
    rows: TokenRows | None,
    head: Any,
    active: ActiveAdapters,
) -> list[HeadChange]:
    """Return what one adapter changes in the output head, in the order in which it is applied."""
    like = active.like
    changes: list[HeadChange] = []
    if whole := adapter.modules.get(path):
        linear = _with_parameters(head, whole, active)
        on_cpu_in_float32 = like.dtype == torch.float32 and like.device.type == "cpu"
        changes.append(TunedHead(number, Float32Head(linear) if on_cpu_in_float32 else linear))
    elif rows:
        ids = torch.tensor(rows.ids, device=like.device)
        changes.append(TunedHeadRows(number, ids, rows.rows.to(like), len(head.weight)))
    if update := adapter.lora.get(path):
        b = (update.scaling * update.b.float()).to(like)
        if not b.isfinite().all():
            raise WeightsError(f"An adapter's update of {path} is not finite in {like.dtype}.")
        changes.append(LoraHead(number, update.a.to(like), b))
    return changes


def _tuned_rows(embedding: Any, rows: TokenRows, active: ActiveAdapters) -> TunedRows:
    """Return an embedding with an adapter's rows, scaled as the base's embedding scales its own."""
    like = active.like
    stored = getattr(embedding, "stored", embedding)
    factor = getattr(stored, "factor", None)
    if factor is None:
        factor = getattr(stored, "embed_scale", None)
    values = rows.rows.to(stored.weight.dtype).to(like.device)
    if factor is not None:
        values = values * torch.as_tensor(factor, device=like.device).to(values.dtype)
    ids = torch.tensor(rows.ids, device=like.device)
    return TunedRows(embedding, ids, values, len(stored.weight))


def _with_parameters(
    base: nn.Module, parameters: Mapping[str, Tensor], active: ActiveAdapters
) -> nn.Module:
    """Return a module of the base's kind with an adapter's parameters.

    A matrix that is no embedding becomes a plain linear layer, in whatever form the base's is.
    """
    if parameters["weight"].ndim == 2 and not hasattr(base, "nf"):  # GPT-2's layer stays its own
        height, width = parameters["weight"].shape
        module: nn.Module = nn.Linear(width, height, bias="bias" in parameters, device="meta")
    else:
        module = deepcopy(base)
    for name, tensor in parameters.items():
        setattr(module, name, nn.Parameter(tensor.to(active.like), requires_grad=False))
    return module.eval()


def _embeddings(model: Any) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def _is_tied(embedding: Any, head: Any) -> bool:
    return bool(embedding.weight.data_ptr() == head.weight.data_ptr())


def _path_of(model: Any, module: nn.Module) -> str:
    paths: dict[int, str] = {id(other): path for path, other in model.named_modules()}
    return paths[id(module)]
