"""A tiny random model with two adapters, and a tokenizer made on the spot."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from models.engine.layers.adapter import Adapter, LoraUpdate
from models.engine.layers.multi_lora import ActiveAdapters, stack_adapters

FAMILIES = ("llama", "qwen3", "gemma3")
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXT = (
    "Tell me a joke. Name three colours. The quick brown fox jumps over the lazy dog. "
    "### Instruction: ### Input: ### Response: Review: Sentiment: positive negative "
)


def make_model(family: str, vocab_size: int = 96, seed: int = 0):
    """Return a random model in float32, evaluation mode; Gemma 3 with a window of 8."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2 if family == "qwen3" else 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    elif family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shape))
    else:
        layers = ["sliding_attention", "full_attention"]
        config = Gemma3TextConfig(**shape, sliding_window=8, layer_types=layers)
        model = Gemma3ForCausalLM(config)
    return model.eval()


def four_bit(weight):
    """Return a linear layer that holds (out, in) weights in NF4."""
    height, width = weight.shape
    layer = Linear4bit(width, height, bias=False, compute_dtype=weight.dtype, quant_type="nf4")
    layer.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", blocksize=64)
    layer.weight.compress_statistics = False
    return layer.to(weight.device).eval()


def add_adapters(model, names=("first", "second"), ranks=(4, 2)):
    """Put random LoRA adapters of different rank on all linear layers; return the PEFT model."""
    wrapped = None
    for n, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=LINEAR)
        if wrapped is None:
            wrapped = get_peft_model(model, config, adapter_name=name)
        else:
            wrapped.add_adapter(name, config)
        torch.manual_seed(100 + n)
        with torch.no_grad():
            for key, weight in wrapped.named_parameters():
                if f"lora_B.{name}" in key or f"lora_A.{name}" in key:
                    weight.normal_(std=0.3)
    return wrapped.eval()


def make_adapters(model, names=("first", "second"), ranks=(4, 2)) -> list[Adapter]:
    """Return the adapters that `add_adapters` puts on a model, which stays as it is."""
    wrapped = add_adapters(deepcopy(model), names, ranks)
    layers = {
        path.removeprefix("base_model.model."): layer
        for path, layer in wrapped.named_modules()
        if isinstance(layer, LoraLayer)
    }
    return [
        Adapter(
            {
                path: LoraUpdate(
                    layer.lora_A[name].weight.detach(),
                    layer.lora_B[name].weight.detach(),
                    layer.scaling[name],
                )
                for path, layer in layers.items()
            }
        )
        for name in names
    ]


def stack(model) -> ActiveAdapters:
    """Put the adapters of `make_adapters` into a model's layers."""
    return stack_adapters(model.requires_grad_(False), make_adapters(model), torch.float32)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with `<pad> <eos> <bos> <unk>` and a BOS before every text."""
    tokenizer = Tokenizer(tokenizer_models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
    )


def write_trio(folder: Path, template: str, family: str = "gemma3") -> Path:
    """Write a base, two adapters on it and a trio file named `tiny`; return the file's path."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder / "base")
    make_model(family, len(tokenizer)).save_pretrained(folder / "base")
    model = make_model(family, len(tokenizer))
    wrapped = add_adapters(model, ("task", "instruct"))
    for config in wrapped.peft_config.values():
        config.base_model_name_or_path = str((folder / "base").resolve())
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    (folder / "instruct" / "chat_template.jinja").write_text(template)
    path = folder / "trios.toml"
    path.write_text(
        """
[trio.tiny]
title = "Tiny and random"
precision = "none"
max_context = 128

[trio.tiny.base]
name = "tiny"
base = "./base"

[trio.tiny.task]
name = "task"
base = "./base"
adapter = "./task"
ends_with = "\\n"

[trio.tiny.instruct]
name = "instruct"
base = "./base"
adapter = "./instruct"
reads = "chat"
"""
    )
    return path
