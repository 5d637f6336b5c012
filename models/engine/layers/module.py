"""Modules that are called without detours.

A step of a small model calls some 400 modules and looks up three times as many attributes. torch
asks each call for hooks, and finds children by a search that fails first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn


class HooklessModule(nn.Module):
    """A module without hooks: calling it is calling `forward`."""

    if not TYPE_CHECKING:

        def __call__(self, *args: Any) -> Any:
            """Answer as `forward` does."""
            return self.forward(*args)


def freeze_attributes(model: nn.Module) -> None:
    """Make children, parameters and buffers plain attributes; nothing may be replaced after it."""
    for module in model.modules():
        for held in (module._modules, module._parameters, module._buffers):
            module.__dict__.update({name: one for name, one in held.items() if one is not None})
