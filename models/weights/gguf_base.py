"""Converts a GGUF file to what transformers loads: safetensors, config and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from models.model_info import Progress, ProgressCallback
from models.weights.quiet import quiet_libraries

Q8_FILE = Path("blocks", "embedding.safetensors")
"""File of a prepared folder with the embedding in 8 bits, if its source has it in 8 bits."""


def convert(folder: Path, on_progress: ProgressCallback) -> None:
    """Convert `base.gguf` to bf16 safetensors and `tokenizer.json`, in the same folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quiet_libraries()
    file = folder / "base.gguf"
    with _read_once():
        on_progress(Progress("De-quantising the base", 0.1))
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=file.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            trust_remote_code=False,
        )
        on_progress(Progress("Writing the base", 0.5))
        model.save_pretrained(folder)
        del model
        on_progress(Progress("Converting the tokenizer", 0.6))
        tokenizer = AutoTokenizer.from_pretrained(
            folder, gguf_file=file.name, trust_remote_code=False
        )
        tokenizer.save_pretrained(folder)
        _keep_q8_embedding(file, folder / Q8_FILE)
    file.unlink()


@contextmanager
def _read_once() -> Iterator[None]:
    """Read a GGUF file's header once, though transformers asks for it three times; draw no bar.

    It has a million values, which the package gguf reads in Python, one by one: 12 s each time.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as converter

    library: Any = gguf
    reader, bar = gguf.GGUFReader, converter.tqdm
    readers = cache(reader)
    library.GGUFReader = lambda path: readers(str(path))
    converter.tqdm = lambda tensors, **options: tensors  # it obeys no switch of transformers
    try:
        yield
    finally:
        library.GGUFReader, converter.tqdm = reader, bar


def _keep_q8_embedding(file: Path, path: Path) -> None:
    """Write the embedding's 8-bit codes and scales; write nothing if it is not in Q8_0."""
    import gguf
    import numpy as np
    from safetensors.numpy import save_file

    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for tensor in gguf.GGUFReader(file).tensors:
        if tensor.name == "token_embd.weight" and tensor.tensor_type == q8_0:
            blocks = tensor.data.reshape(len(tensor.data), -1, 34)  # a float16, then 32 int8
            scales = np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]
            codes = blocks[:, :, 2:].reshape(len(blocks), -1).view(np.int8)
            path.parent.mkdir()
            save_file({"codes": codes, "scales": np.ascontiguousarray(scales)}, path)
