"""Adapters on bases of every precision, opened as people open them: as PEFT computes them alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from models import Prompt, ScoreRequest, find_trio, open_backend
from models.engine.layers.dequantized import weight_values

NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
INT8 = {"load_in_8bit": True}
PRECISIONS = {"none": {}, "nf4": NF4, "fp4": NF4 | {"bnb_4bit_quant_type": "fp4"}, "int8": INT8}
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "tie_word_embeddings": True,
}
TARGETS = ["q_proj", "down_proj"]
KINDS = {
    "lora": {"target_modules": tiny.LINEAR},
    "dora": {"target_modules": tiny.LINEAR, "use_dora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "token rows": {"target_modules": TARGETS, "trainable_token_indices": [5, 40, 300]},
    "whole both": {"target_modules": TARGETS, "modules_to_save": ["embed_tokens", "lm_head"]},
    "whole norms": {"target_modules": TARGETS, "modules_to_save": ["input_layernorm", "norm"]},
}
TEXT = Prompt("The quick brown fox jumps over the lazy dog. Tell me a joke.")


def quantized(folder: Path, settings: dict[str, object]):
    config = {"quantization_config": BitsAndBytesConfig(**settings)} if settings else {}
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, device_map={"": "cpu"}, **config
    )


def load(folder: Path, settings: dict[str, object], adapter: Path | None = None):
    """Return a base with its weights dequantized, and an adapter on it, computing in float32."""
    model = quantized(folder, settings)
    for path, layer in list(model.named_modules()):
        if isinstance(layer, Linear4bit | Linear8bitLt):
            plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
            plain.weight.data = weight_values(layer).float()
            model.set_submodule(path, plain)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    model.hf_quantizer = model.config.quantization_config = None
    model.is_quantized = model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


@torch.inference_mode()
def losses(model, ids: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")


def random_model(shape: dict) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(5)  # so that what an adapter changes shows in the logits
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with a base, saved unquantised, and an adapter of each kind on it."""
    folder = tmp_path_factory.mktemp("adapters")
    tokenizer = tiny.make_tokenizer()
    tokenizer.save_pretrained(folder / "base")
    random_model(SHAPE | {"vocab_size": len(tokenizer)}).save_pretrained(folder / "base")
    for n, (kind, options) in enumerate(KINDS.items()):
        base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
        model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, **options))
        torch.manual_seed(n)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight) * 0.3)
        model.save_pretrained(folder / kind, save_embedding_layers=False)
    return folder


def trio_file(folder: Path, base: str, kinds: tuple[str, str], precision: str) -> Path:
    path = folder / "trios.toml"
    adapters = "\n".join(
        f'{role} = {{ name = "{role}", base = "{base}", adapter = "./{kind}", same_base = true }}'
        for role, kind in zip(("task", "instruct"), kinds, strict=True)
    )
    path.write_text(
        f'[trio.t]\nprecision = "{precision}"\nbase = {{ name = "b", base = "{base}" }}\n{adapters}'
    )
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_column_scores_as_peft_does_with_it_alone(folder, precision, kind) -> None:
    settings, base = PRECISIONS[precision], "./base"
    if precision in ("fp4", "int8"):  # served as they were saved
        base = f"./{precision}"
        quantized(folder / "base", settings).save_pretrained(folder / base)
        tiny.make_tokenizer().save_pretrained(folder / base)
    beside = "lora" if kind != "lora" else "whole both"
    asked = "nf4" if precision == "nf4" else "none"
    backend = open_backend(find_trio("t", trio_file(folder, base, (kind, beside), asked)))
    try:
        *_, scores = backend.score(ScoreRequest(TEXT))
        assert {info.precision for info in backend.model_info().values()} == {precision}
    finally:
        backend.close()
    ids = [piece.id for piece in scores["base"].pieces]
    columns = {"base": None, "task": folder / kind, "instruct": folder / beside}
    settings = settings if base == "./base" else {}  # the saved base tells its own
    expected = {r: losses(load(folder / base, settings, a), ids) for r, a in columns.items()}
    ours = {role: torch.tensor(scores[role].losses[1:]) for role in columns}
    for role, other in (("task", "base"), ("instruct", "base"), ("base", "task")):
        off = (ours[role] - expected[role]).abs().mean()
        change = (expected[role] - expected[other]).abs().mean()
        assert off < 0.04 * change, role  # what bfloat16 rounds, beside what an adapter changes


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_a_head_that_was_saved_in_few_bits_scores_as_it_is(tmp_path, precision, tied) -> None:
    tokenizer = tiny.make_tokenizer()
    shape = SHAPE | {"vocab_size": 384, "tie_word_embeddings": tied}
    random_model(shape).save_pretrained(tmp_path / "plain")
    settings = PRECISIONS[precision] | {"llm_int8_skip_modules": ["embed_tokens"]}
    quantized(tmp_path / "plain", settings).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    path = tmp_path / "trios.toml"
    variants = "\n".join(
        f'{role} = {{ name = "{role}", base = "./base" }}' for role in ("base", "task", "instruct")
    )
    path.write_text(f'[trio.t]\nprecision = "none"\n{variants}')
    backend = open_backend(find_trio("t", path))
    *_, scores = backend.score(ScoreRequest(TEXT))
    backend.close()
    expected = losses(load(tmp_path / "base", {}), [piece.id for piece in scores["base"].pieces])
    off = (torch.tensor(scores["base"].losses[1:]) - expected).abs().mean()
    assert off < 0.04 * expected.std()
