"""Modules without torch's overhead for calls and attributes.

A step of a small model calls some 400 modules and looks up three times as many attributes. torch
checks each call for hooks, and finds children only after an ordinary attribute lookup has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn


class HooklessModule(nn.Module):
    """A module without hooks: calling it calls `forward` directly."""

    if not TYPE_CHECKING:

        def __call__(self, *args: Any) -> Any:
            """Return what `forward` returns."""
            return self.forward(*args)


def freeze_attributes(model: nn.Module) -> None:
    """Make children, parameters and buffers plain attributes; none may be replaced afterwards."""
    for module in model.modules():
        for parts in (module._modules, module._parameters, module._buffers):
            module.__dict__.update({name: part for name, part in parts.items() if part is not None})
