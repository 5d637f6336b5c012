"""Reads `adapter_config.json`, and refuses what cannot be served beside a base without changing it.

PEFT has dozens of kinds of adapters, and most of LoRA's options are newer than this project. What
is not known here to leave the base as it is, is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.errors import WeightsError, first_line
from models.weights.adapter_fields import FIELDS, WITHOUT_EFFECT
from models.weights.json_object import read_object

FILE = "adapter_config.json"
_SERVED = "LoRA (rsLoRA and DoRA, too) and trained token rows"
_UNMERGEABLE = {
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"),
    *("ADAPTION_PROMPT", "POLY", "XLORA"),
}
"""Kinds that PEFT cannot merge into a base's weights."""
_PLAIN_STARTS = ("none", "true", "false", "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base's weights alone, in lower case."""
_SUBTRACTING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of the names of those that subtract their start from the base's weights."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of an adapter's config that says what it changes."""

    name: str
    """Name of the adapter's folder."""
    base: str | None
    """What the adapter was trained on, as the config says it."""
    values: Mapping[str, Any]
    """The config, as it is in the file."""

    def lora_scaling(self, path: str) -> float:
        """Return the factor on B · A of a module: alpha / r, or alpha / √r for rsLoRA."""
        rank = self.rank(path)
        alpha = float(self._by_pattern("alpha_pattern", path, self.values.get("lora_alpha", 8)))
        return alpha / (rank**0.5 if self.values.get("use_rslora") else rank)

    def rank(self, path: str) -> int:
        """Return the rank that the config gives a module's update."""
        return int(self._by_pattern("rank_pattern", path, self.values.get("r", 8)))

    def _by_pattern(self, key: str, path: str, default: Any) -> Any:
        from peft.utils.other import get_pattern_key

        patterns = self.values.get(key) or {}
        return patterns.get(get_pattern_key(patterns, path), default)

    def targets(self, paths: Iterable[str], linear: Sequence[str]) -> set[str]:
        """Return the modules that the config has an update for, by PEFT's own rules for names.

        Args:
            paths: the base's modules.
            linear: those that `all-linear` stands for.

        Raises:
            WeightsError: the config's names cannot be read.
        """
        from peft import LoraConfig
        from peft.tuners.tuners_utils import check_target_module_exists

        targets = self.values.get("target_modules")
        if self.values["peft_type"].upper() != "LORA":
            return set()
        if not targets and not self.values.get("trainable_token_indices"):
            raise WeightsError(f"The config of the adapter {self.name} names no target_modules.")
        if isinstance(targets, str) and targets.lower() == "all-linear":
            targets = list(linear)
        if not targets:
            return set()
        keys = ("exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")
        try:
            config = LoraConfig(
                target_modules=targets,
                **{key: own for key in keys if (own := self.values.get(key)) is not None},
            )
            return {path for path in paths if check_target_module_exists(config, path)}
        except (ValueError, TypeError, re.error) as error:
            raise WeightsError(
                f"The targets of the adapter {self.name} cannot be read: {first_line(error)}"
            ) from error

    def saves(self, path: str) -> bool:
        """Whether the config says that a module was trained whole; PEFT compares the ends alone."""
        return any(path.endswith(name) for name in self.values.get("modules_to_save") or ())

    def token_ids(self, path: str, embedding: str) -> tuple[int, ...]:
        """Return the tokens whose rows of a module were trained, where the config names it.

        Args:
            path: the module.
            embedding: path of the input embedding, which is meant where no module is named.
        """
        if "token_indices" in self.values:
            names = self.values.get("target_modules") or [embedding]
            ids = dict.fromkeys([names] if isinstance(names, str) else names,
                                self.values["token_indices"] or ())  # fmt: skip
        else:
            ids = self.values.get("trainable_token_indices") or {}
            ids = ids if isinstance(ids, dict) else {embedding: ids}
        by_name = (own for name, own in ids.items() if f".{path}".endswith(f".{name}"))
        return tuple(next(by_name, ()))


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read the config of an adapter's folder.

    Raises:
        WeightsError: it cannot be read, or the adapter is of a kind that is not served.
    """
    path = folder / FILE
    if not path.is_file():
        raise WeightsError(f"{folder} holds no adapter: there is no {FILE} in it.")
    values = read_object(path)
    if not isinstance(values.get("peft_type"), str):
        raise WeightsError(f"{path} has no peft_type: it is no adapter's config.")
    _check_kind(folder.name, values["peft_type"].upper())
    for key, (is_valid, what) in FIELDS.items():
        if key in values and not is_valid(values[key]):
            raise WeightsError(f"{path}: {key} is {values[key]!r}; it must be {what}.")
    _check_values(path, values)
    return AdapterConfig(folder.name, values.get("base_model_name_or_path"), values)


def _check_kind(name: str, kind: str) -> None:
    if kind in ("LORA", "TRAINABLE_TOKENS"):
        return
    cure = (
        "It cannot be merged into a base either: train a LoRA"
        if kind in _UNMERGEABLE
        else "Merge it with PEFT (merge_and_unload, save_pretrained), and name the merged folder "
        "as base"
    )
    raise WeightsError(
        f"The adapter {name} is {kind}, and would not leave the base beside it as it is: served "
        f"are {_SERVED}. {cure}."
    )


def _check_values(path: Path, values: Mapping[str, Any]) -> None:
    """Refuse options that change the base, or whose effect is not known here."""
    name = path.parent.name
    start = values.get("init_lora_weights")
    if str(start).lower() not in _PLAIN_STARTS:
        if not str(start).lower().startswith(_SUBTRACTING_STARTS):
            raise WeightsError(
                f"{path}: init_lora_weights is {start!r}, and whether that leaves the base alone "
                f"is not known here. Known are {', '.join(_PLAIN_STARTS[1:])}. If it does, write "
                "true in its place."
            )
        raise WeightsError(
            f"The adapter {name} began as {start}, which subtracts its start from the base's "
            "weights: beside another variant the base would not be the base. Save it as plain LoRA "
            "with PEFT: save_pretrained(…, path_initial_model_for_weight_conversion=…) turns it "
            "into one that leaves the base alone."
        )
    if (bias := values.get("bias", "none")) != "none":
        raise WeightsError(
            f"The adapter {name} has trained biases (bias = {bias!r}), which PEFT writes into the "
            "base. Train it with bias = 'none', or merge it with PEFT (merge_and_unload) and name "
            "the merged folder as base."
        )
    unknown = {
        k: v for k, v in values.items() if v and k not in {"peft_type", *FIELDS, *WITHOUT_EFFECT}
    }
    if unknown:
        key, value = next(iter(unknown.items()))
        what = f"which is not served: only {_SERVED} are. Merge it"
        if not _is_known_to_peft(key):
            what = (
                f"which PEFT {version('peft')} does not know. If it has no effect on what the "
                "adapter computes, take it out of the file; else merge it"
            )
        raise WeightsError(
            f"The adapter {name} sets {key} = {value!r}, {what} with PEFT "
            "(merge_and_unload), and name the merged folder as base."
        )


def _is_known_to_peft(key: str) -> bool:
    from peft import LoraConfig, TrainableTokensConfig

    return any(key in config.__dataclass_fields__ for config in (LoraConfig, TrainableTokensConfig))
