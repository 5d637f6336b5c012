"""Silences the output of libraries: this package reports progress itself, and errors are raised."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

_LOCK = threading.Lock()
"""Held while bitsandbytes is imported, since two trios may be opened at once."""


def quiet_libraries() -> None:
    """Switch off progress bars and advice of transformers, bitsandbytes and peft."""
    _import_bitsandbytes()
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # Deprecated, but FBGEMM takes no other quantized tensors, and torch has no successor yet.
    warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)


def _import_bitsandbytes() -> None:
    """Import bitsandbytes without two things that it does at import.

    It marks functions of 8-bit optimizers and matmuls to be compiled, which loads torch's compiler
    (1 s); and on a CPU with AVX512-BF16 it loads a kernel from the Hub, if the package `kernels` is
    installed: code that nobody has chosen. Its own kernels serve.
    """
    with _LOCK:
        if "bitsandbytes" in sys.modules:
            return
        import torch

        logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
        compile, kernels, level = torch.compile, sys.modules.get("kernels"), logger.level
        module: Any = torch
        try:
            module.compile = _uncompiled
            sys.modules["kernels"] = None  # type: ignore[assignment]
            logger.setLevel(logging.ERROR)
            import bitsandbytes  # noqa: F401
        finally:
            module.compile = compile
            logger.setLevel(level)
            sys.modules.pop("kernels")
            if kernels is not None:
                sys.modules["kernels"] = kernels


def _uncompiled(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """Take the place of `torch.compile`, as a function or a decorator with options."""
    return function or (lambda decorated: decorated)
