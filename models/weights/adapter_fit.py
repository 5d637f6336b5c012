"""The modules of a base that an adapter's tensors are fitted to, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from models.errors import WeightsError
from models.weights.adapter_config import AdapterConfig

_SHOWN = 3
"""Number of misfits that an error lists."""


class Embeddings(NamedTuple):
    """Paths of a base's embedding and output head."""

    embedding: str
    head: str
    tied: bool
    """Whether both have the same weights."""


@dataclass(slots=True)
class Fit:
    """The modules of a base, and what is wrong with an adapter's tensors for them."""

    config: AdapterConfig
    modules: Mapping[str, nn.Module]
    embeddings: Embeddings
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


def embeddings_of(model: Any, modules: Mapping[str, nn.Module]) -> Embeddings:
    """Return where embedding and output head are among a model's modules."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    paths = {id(module): path for path, module in modules.items()}
    tied = embedding.weight.data_ptr() == head.weight.data_ptr()
    return Embeddings(paths[id(embedding)], paths[id(head)], tied)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer, GPT-2's included."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def matrix_shape(module: Any) -> tuple[int, int]:
    """Return (out, in) of a linear layer, in 4 bits, too; (tokens, d) of an embedding."""
    if hasattr(module, "out_features"):
        return module.out_features, module.in_features
    if hasattr(module, "nf"):  # GPT-2's layer, whose weight is (in, out)
        return module.nf, module.nx
    height, width = module.weight.shape
    return height, width
