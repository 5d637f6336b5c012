"""Silences the output of libraries: this package reports progress itself, and errors are raised."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Switch off progress bars and advice of transformers, bitsandbytes and peft."""
    # bitsandbytes advises an optional download from the Hub at import; its own kernels are wanted.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # Deprecated, but FBGEMM takes no other quantized tensors, and torch has no successor yet.
    warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
