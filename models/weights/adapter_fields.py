"""The fields of `adapter_config.json` that are known here, and what their values must be."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

WITHOUT_EFFECT = frozenset(
    [
        "task_type",
        "auto_mapping",
        "revision",
        "inference_mode",
        "peft_version",
        "lora_dropout",
        "fan_in_fan_out",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
        "init_weights",
    ]
)
"""Fields that only training reads, or that say how the adapter was made."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _all(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(is_valid, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_pattern(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    """Whether a value is a table of numbers by regular expressions for module names."""
    if not isinstance(value, dict):
        return value is None
    try:
        return all(re.compile(key) and is_valid(own) for key, own in value.items())
    except re.error:
        return False


def _is_tokens(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_all(ids, _is_whole) for ids in value.values())
    return value is None or _all(value, _is_whole)


_NAMES = (
    lambda v: v is None or isinstance(v, str) or _all(v, _is_name),
    "a name, a list of names or null",
)
_FLAG = (lambda v: v is None or isinstance(v, bool), "true or false")
FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "base_model_name_or_path": (lambda v: v is None or isinstance(v, str), "text or null"),
    "r": (lambda v: _is_whole(v) and v > 0, "a whole number above 0"),
    "lora_alpha": (_is_number, "a number above 0"),
    "rank_pattern": (
        lambda v: _is_pattern(v, lambda r: _is_whole(r) and r > 0),
        "a table of whole numbers above 0, by patterns of module names",
    ),
    "alpha_pattern": (
        lambda v: _is_pattern(v, _is_number),
        "a table of numbers above 0, by patterns of module names",
    ),
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "layers_pattern": _NAMES,
    "layers_to_transform": (
        lambda v: v is None or _is_whole(v) or _all(v, _is_whole),
        "a number, a list of numbers or null",
    ),
    "modules_to_save": (lambda v: v is None or _all(v, _is_name), "a list of names or null"),
    "trainable_token_indices": (_is_tokens, "a list of token ids, or a table of such lists"),
    "token_indices": (_is_tokens, "a list of token ids"),
    "use_dora": _FLAG,
    "use_rslora": _FLAG,
    "ensure_weight_tying": _FLAG,
    "bias": (_is_name, "none, all or lora_only"),
    "init_lora_weights": (
        lambda v: v is None or isinstance(v, bool | str),
        "true, false or a name",
    ),
}
"""The fields that are read: for each a test of its value, and words for an error."""
