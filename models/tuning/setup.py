"""Prepares a training run: tokenized rows, and a new adapter on the NF4-rounded base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.engine.layers import packed_matmul
from models.errors import WeightsError
from models.text.render import Message
from models.trios import read_pin
from models.tuning.formatting import FormattedExample, format_dataset
from models.tuning.recipe import Recipe
from models.tuning.run_report import EXAMPLES
from models.tuning.saving import TEMPLATE
from models.tuning.trainer import TokenizedExample
from models.weights.fetch import base_folder
from models.weights.load import device_and_dtypes
from models.weights.quiet import quiet_libraries

_EXAMPLE_POOL = 30
"""Number of first rows among which the shortest are shown as examples."""


@dataclass(frozen=True, slots=True)
class TokenizedDataset:
    """The training rows of a recipe as token ids."""

    training: list[TokenizedExample]
    held_out: list[TokenizedExample]
    too_long: int
    """Number of training rows left out because they exceed the recipe's `max_tokens`."""
    filtered: int
    """Number of examples left out by the filters of their sources."""
    overlapping: int
    """Number of examples left out by decontamination."""
    examples: list[list[list[str]]]
    """Some training rows, each as the texts of the tokens of prompt and completion."""


def tokenized_dataset(recipe: Recipe, data: Path) -> TokenizedDataset:
    """Render and tokenize the training rows of a recipe.

    Prompt and completion are tokenized separately, so that no token spans both, as at run time.

    Raises:
        WeightsError: a data file is missing, or no row is short enough.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_base_folder(recipe), trust_remote_code=False)
    template = TEMPLATE.read_text(encoding="utf-8")

    def wrap(message: Message) -> str:
        text: str = tokenizer.apply_chat_template(
            [message.as_dict()],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )
        return text

    def encoded(formatted: tuple[FormattedExample, ...]) -> list[TokenizedExample]:
        examples = []
        for row in formatted:
            prompt = tokenizer(row.prompt, add_special_tokens=not row.special)["input_ids"]
            completion = tokenizer(row.completion, add_special_tokens=False)["input_ids"]
            examples.append(TokenizedExample(tuple(prompt), (*completion, tokenizer.eos_token_id)))
        return examples

    dataset = format_dataset(recipe, data, wrap)
    limit = recipe.training.max_tokens
    training, held_out = encoded(dataset.training), encoded(dataset.held_out)
    short = [row for row in training if len(row) <= limit]
    if not short:
        raise WeightsError(f"Recipe {recipe.name}: no row is within {limit} tokens.")
    return TokenizedDataset(
        training=short,
        held_out=[row for row in held_out if len(row) <= limit],
        too_long=len(training) - len(short),
        filtered=dataset.filtered,
        overlapping=dataset.overlapping,
        examples=[
            [[tokenizer.decode([id]) for id in part] for part in (row.prompt, row.completion)]
            for row in sorted(short[:_EXAMPLE_POOL], key=len)[:EXAMPLES]
        ],
    )


def adapter_on_rounded_base(recipe: Recipe) -> Any:
    """Load the base, round it to NF4 and back, and put a new LoRA adapter on it.

    The model is on the GPU, if there is one. It computes in bf16, or in float32 where bf16 would be
    emulated, but never in float16, in which Gemma 3 overflows.
    """
    quiet_libraries()
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(recipe.seed)
    device, (narrow, *_) = device_and_dtypes()
    model = AutoModelForCausalLM.from_pretrained(
        _base_folder(recipe), dtype=torch.bfloat16, trust_remote_code=False
    )
    round_to_nf4(model)
    native_bf16 = narrow == torch.bfloat16 and (
        device.type != "cpu" or packed_matmul.has_matmul(narrow)
    )
    model.to(device, torch.bfloat16 if native_bf16 else torch.float32)
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=list(recipe.lora.layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


@torch.no_grad()
def round_to_nf4(model: nn.Module) -> None:
    """Round every linear layer but the output head to NF4 and back, in place.

    The weights are then those that the 4-bit base computes with, which has the same blocks of 64.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and name != "lm_head":
            packed, state = quantize_4bit(layer.weight, blocksize=64, quant_type="nf4")
            layer.weight.copy_(dequantize_4bit(packed, state))


def _base_folder(recipe: Recipe) -> Path:
    return base_folder(read_pin(recipe.base, Path.cwd()), lambda progress: None)
