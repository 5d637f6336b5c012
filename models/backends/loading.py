"""Loads a base and its adapters, and proves that the adapters left the base as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.backends.derived_base import LoadedBase, load_rounded
from models.engine.interface import BASE, AdapterScale, SequenceSpec
from models.engine.layers.adapter import Adapter
from models.engine.layers.dequantized import needs_dequantized, to_float32, unpack_int8
from models.engine.layers.fused_linear import fuse_linears
from models.engine.layers.multi_lora import ActiveAdapters, stack_adapters
from models.engine.layers.nf4 import unpack_odd_layers
from models.engine.layers.q8_0 import Q8Matrix, read_q8, use_q8_embedding
from models.engine.layers.tuned_modules import tune_inner_modules
from models.engine.options import EngineOptions
from models.errors import WeightsError, first_line, is_out_of_memory
from models.types import Pin, Trio, Variant
from models.weights.adapter import changes_nothing, read_adapter
from models.weights.adapter_config import read_adapter_config
from models.weights.allocator import remap_weights
from models.weights.base_check import adapter_digest, base_digest, check_trained_on
from models.weights.gguf_base import Q8_FILE
from models.weights.load import adapter_folder, device_and_dtypes


class LoadedModel(NamedTuple):
    """A model with its adapters, and its outputs for the probe with transformers' attention."""

    model: Any
    adapters: Sequence[Adapter]
    active: ActiveAdapters
    digests: tuple[str, ...]
    """See `ModelGroup`."""
    states: Tensor
    """(T, d), hidden states of the probe."""
    logits: Tensor
    """(T, V)."""


def checked_folders(
    variants: Sequence[Variant], pins: Sequence[Pin], base: Pin, base_folder: Path
) -> list[Path]:
    """Return the folders of adapters; refuse one that is not served, before weights are loaded."""
    folders = []
    by_hand = {v.weights.adapter for v in variants if v.weights.same_base}
    for pin in pins:
        folders.append(adapter_folder(pin))
        config = read_adapter_config(folders[-1])
        if pin not in by_hand:
            check_trained_on(config, base, base_folder)
    return folders


@contextmanager
def refusing_kind(pin: Pin, model: Any) -> Iterator[None]:
    """Turn any failure of a model's own code, except for want of memory, into a refusal.

    Raises:
        WeightsError: the model cannot be computed.
    """
    try:
        yield
    except (RuntimeError, TypeError, AttributeError, ValueError, KeyError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise WeightsError(
            f"{pin} cannot be computed here: models of the kind {model.config.model_type} are not "
            f"served ({first_line(error).rstrip('.')})."
        ) from error


def _check_layers(pin: Pin, model: Any) -> None:
    """Refuse a model with layers whose state is more than keys and values."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    if others := [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]:
        raise WeightsError(
            f"{pin} has layers of the kind {others[0]}, which are not served: only attention is."
        )


def _check_beside(
    pin: Pin, model: Any, active: ActiveAdapters, inputs: dict[str, Any], alone: Tensor
) -> None:
    """Refuse adapters that disturb the base's row in one batch, or compute no finite numbers.

    Args:
        pin: the base.
        model: the base with its adapters.
        active: the adapters.
        inputs: the probe, one row.
        alone: (T, d), the states of the base's row alone.

    Raises:
        WeightsError: an adapter does so.
    """
    rows = [BASE, *(AdapterScale(n, 1.0) for n in range(1, active.count + 1))]
    batch = inputs | {"input_ids": inputs["input_ids"].expand(len(rows), -1)}
    base, *tuned = active.run(model.base_model, rows, **batch).last_hidden_state
    off = (base - alone).float().norm() / alone.float().norm()
    if alone.isfinite().all() and not off < 0.01:
        raise WeightsError(f"An adapter disturbs {pin} where both are computed in one batch.")
    if alone.isfinite().all() and not all(states.isfinite().all() for states in tuned):
        raise WeightsError(f"An adapter of {pin} computes no finite numbers.")


class _Weights(NamedTuple):
    """A base and its adapters, before anything is fused or packed."""

    base: LoadedBase
    adapters: Sequence[Adapter]
    active: ActiveAdapters
    q8: Q8Matrix | None
    """Blocks in 8 bits that take the place of the base's embedding."""


def _load_weights(
    trio: Trio,
    folder: Path,
    pin: Pin,
    adapter_folders: Sequence[Path],
    device: torch.device,
    dtype: torch.dtype,
) -> _Weights:
    """Load a base and its adapters, and prove that its tensors are then what they were before.

    Raises:
        WeightsError: they are not, or one of the two cannot be loaded.
    """
    for read_derived in (True, False):
        base = load_rounded(folder, trio.precision, device, dtype, read_derived)
        model, facts = base.model, base.facts
        _check_layers(pin, model)
        computed_in = torch.float32 if needs_dequantized(model) else dtype
        adapters = [read_adapter(path, model) for path in adapter_folders]
        active = stack_adapters(model, adapters, computed_in)
        tune_inner_modules(model, adapters, active)
        q8 = read_q8(folder / Q8_FILE, dtype, facts.q8_digest)
        # An embedding that nobody reads any more, as equal blocks replace it, is not hashed again.
        is_read = q8 is None or any(adapter.modules or adapter.token_rows for adapter in adapters)
        if base_digest(model, "" if is_read else facts.embedding_digest) == facts.digest:
            return _Weights(base, adapters, active, q8)
        if not base.derived:
            break
        base.derived.discard(f"{base.derived.folder} holds other weights than were written")
    raise WeightsError(f"Loading the adapters changed {pin}: it would not be the base.")


def load_finite(
    trio: Trio,
    folder: Path,
    pin: Pin,
    adapter_folders: Sequence[Path],
    probe: SequenceSpec,
    options: EngineOptions,
) -> LoadedModel:
    """Load base and adapters in the first dtype in which the model computes finite numbers."""
    device, dtypes = device_and_dtypes()
    for dtype in dtypes:
        base, adapters, active, q8 = _load_weights(
            trio, folder, pin, adapter_folders, device, dtype
        )
        model, dequantizes = base.model, needs_dequantized(base.model)
        digests = (
            base.facts.digest,
            *("" if changes_nothing(adapter) else adapter_digest(adapter) for adapter in adapters),
        )
        if q8:
            use_q8_embedding(model, q8)
        if base.mapped:
            remap_weights(model, base.mapped)
        model.eval()
        if options.fused_linears:  # before the first pass, which packs 4-bit weights for the kernel
            fuse_linears(model)
        unpack_odd_layers(model)
        if dequantizes:
            to_float32(model)
        else:
            unpack_int8(model, dtype)
        with torch.inference_mode(), refusing_kind(pin, model):
            inputs = {"input_ids": torch.tensor([probe.ids], device=device), "use_cache": False}
            states = active.run(model.base_model, [BASE], **inputs).last_hidden_state[0]
            logits = active.run(model, [BASE], **inputs).logits[0]
            _check_beside(pin, model, active, inputs, states)
        if states.isfinite().all():
            return LoadedModel(model, adapters, active, digests, states, logits)
    raise WeightsError(f"{pin} computes no finite numbers in {dtypes[-1]}.")
