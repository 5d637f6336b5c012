"""Writes checkpoints and adapters; what a folder held stays until the new file is whole."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from models.errors import WeightsError
from models.tuning.recipe import Recipe

TEMPLATE = Path(__file__).parents[1] / "adapters" / "instruct" / "chat_template.jinja"
OTHER_RUN = "is of another recipe or of other rows. Name another --out, or remove it."
"""End of the message that refuses a file of another run, after the file's path."""


def run_identity(recipe: Recipe, rows: Sequence[object], *further: object) -> str:
    """Return a text that is equal only for runs with the same result.

    Args:
        recipe: its base, LoRA settings, seed and hyperparameters are compared; its sources are not,
            since the rows are.
        rows: the training rows in their order.
        further: what else the result depends on.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode())
    settings = (recipe.base, recipe.lora, recipe.seed, recipe.training, *further)
    return f"{settings!r} {digest.hexdigest()}"


def save_checkpoint(
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: str,
    history: Sequence[tuple[Any, ...]],
    path: Path,
) -> None:
    """Write what a run needs to go on: weights, the optimizer's state, figures of its steps.

    Raises:
        WeightsError: the file cannot be written; the last one stays.
    """
    state = {
        "identity": identity,
        "history": list(history),
        "weights": weights,
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_suffix(".tmp")
    with writing(path.parent, temporary):
        torch.save(state, temporary)
        os.replace(temporary, path)


def load_checkpoint(
    weights: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    identity: str,
    path: Path,
) -> list[tuple[Any, ...]]:
    """Load the checkpoint, if there is one, into weights and optimizer; return its history.

    Raises:
        WeightsError: it is damaged, or of another recipe or other rows.
    """
    if not path.is_file():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is damaged. Remove it, to begin anew.") from error
    if not isinstance(state, dict) or state.get("identity") != identity:
        raise WeightsError(f"{path} {OTHER_RUN}")
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return list(state["history"])


def save(model: Any, recipe_path: Path, recipe: Recipe, figures: dict[str, Any], out: Path) -> None:
    """Write the adapter (bf16 safetensors) with its config, recipe and figures.

    The files are written to a temporary folder first and then renamed, so that a full disk leaves
    the old adapter as it was.

    Raises:
        WeightsError: a file cannot be written.
    """
    temporary = out / "adapter.tmp"
    # The local path of the base would mean nothing on another machine.
    model.peft_config["default"].base_model_name_or_path = recipe.base.partition("@")[0]
    shutil.rmtree(temporary, ignore_errors=True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    figures = {**figures, "training": asdict(recipe.training)}
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in figures.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    with writing(out, temporary):
        # `auto` would ask the Hub for the base's config.
        model.save_pretrained(temporary, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)
        shutil.copyfile(recipe_path, temporary / "recipe.toml")
        if recipe.wraps == "chat":
            shutil.copyfile(TEMPLATE, temporary / TEMPLATE.name)
        (temporary / "figures.json").write_text(text, encoding="utf-8")
        for path in temporary.iterdir():
            os.replace(path, out / path.name)
        temporary.rmdir()


@contextmanager
def writing(out: Path, temporary: Path) -> Iterator[None]:
    """Turn a failed write into one error, and remove the temporary file or folder."""
    try:
        yield
    # On a full disk each library raises an error of its own; torch's and safetensors' differ.
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
        raise WeightsError(
            f"{out} cannot be written to: {error}. What it held stays; make room, and run this "
            "again to go on from the last checkpoint."
        ) from error
