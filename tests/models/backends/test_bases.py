"""Bases as they are saved: in 4 or 8 bits, of kinds that the engine does not compute, cut short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    FalconConfig,
    Gemma2Config,
    Lfm2Config,
    MambaConfig,
    Phi3Config,
    StableLmConfig,
)

from models import (
    Prompt,
    PromptError,
    Request,
    Sampling,
    WeightsError,
    find_trio,
    open_backend,
    preview,
    with_context,
)
from models.events import Token

SHAPE = {
    "vocab_size": 363,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
HEADS = SHAPE | {"intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


def trio_file(folder: Path, precision: str = "none", more: str = "") -> Path:
    tiny.make_tokenizer().save_pretrained(folder / "base")
    path = folder / "trios.toml"
    variants = "\n".join(
        f'{role} = {{ name = "{role}", base = "./base" }}' for role in ("base", "task", "instruct")
    )
    path.write_text(f'[trio.t]\nprecision = "{precision}"\n{more}\n{variants}\n')
    return path


def answer(path: Path) -> tuple[str, list[int]]:
    """Return the precision that is told, and the ids of the base's greedy answer."""
    backend = open_backend(find_trio("t", path))
    stream = backend.stream(Request(Prompt("Tell me"), Sampling(12), roles=["base"]))
    ids = [event.id for event in stream if isinstance(event, Token)]
    precision = backend.model_info()["base"].precision
    backend.close()
    return precision, ids


def trained(folder: Path) -> None:
    """Write a base that says a text by heart, so that damage would show."""
    model = tiny.make_model("llama", 363).train().requires_grad_(True)
    ids = torch.tensor([tiny.make_tokenizer()(tiny.TEXT)["input_ids"][:60]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    trained(folder / "base")
    trio_file(folder)
    return folder


@pytest.mark.parametrize("asked", ["nf4", "none"])
@pytest.mark.parametrize(
    ("saved", "settings"),
    [
        ("nf4", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
        (
            "nf4",
            {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
            },
        ),
        ("fp4", {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}),
        ("int8", {"load_in_8bit": True}),
    ],
    ids=["nf4", "nf4 twice", "fp4", "int8"],
)
def test_a_base_saved_in_few_bits_answers_and_is_told_as_such(
    plain, tmp_path, asked, saved, settings
) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        plain / "base", quantization_config=BitsAndBytesConfig(**settings), device_map={"": "cpu"}
    )
    model.save_pretrained(tmp_path / "base")
    precision, ids = answer(trio_file(tmp_path, asked))
    assert precision == saved
    _, expected = answer(plain / "trios.toml")
    assert ids == expected


def refuse(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        open_backend(find_trio("t", path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (StableLmConfig(**HEADS), "models of the kind stablelm are not served"),
        (
            MambaConfig(**SHAPE, state_size=4),
            "has layers of the kind linear_attention, which are not served",
        ),
        (
            Lfm2Config(**HEADS, layer_types=["conv", "full_attention"]),
            "has layers of the kind conv, which are not served",
        ),
        (
            FalconConfig(**SHAPE, num_attention_heads=4, alibi=True, initializer_range=0.3),
            "models of the kind falcon are not served",
        ),
        (
            Gemma2Config(**HEADS, head_dim=16, attn_logit_softcapping=50.0),
            "models of the kind gemma2 are not served (its attention uses softcap)",
        ),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_kind_that_the_engine_does_not_compute_is_refused(tmp_path, config, says) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    assert says in refuse(trio_file(tmp_path))


def edit_config(folder: Path, **values) -> None:
    path = folder / "base" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("asked", ["nf4", "none"])
def test_a_base_that_lacks_tensors_is_refused_not_filled_at_random(tmp_path, asked) -> None:
    tiny.make_model("llama", 363).save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "model.safetensors"
    tensors = load_file(path)
    first = next(key for key in tensors if "down_proj" in key)
    del tensors[first]
    save_file(tensors, path, metadata={"format": "pt"})
    assert f"lacks 1 of the model's tensors, {first} for one" in refuse(trio_file(tmp_path, asked))


def test_a_base_whose_code_lies_beside_it_is_refused(tmp_path) -> None:
    tiny.make_model("llama", 363).save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_config(tmp_path, auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"})
    assert answer(trio_file(tmp_path))[1]  # transformers knows the kind without it
    edit_config(tmp_path, model_type="mine")
    assert "models of the kind mine need Python code of their own" in refuse(trio_file(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_base_with_tensors_of_other_shapes_is_told_as_such(tmp_path) -> None:
    tiny.make_model("llama", 363).save_pretrained(tmp_path / "base")
    edit_config(tmp_path, vocab_size=400)
    assert "its tensors have other shapes than its config.json says" in refuse(trio_file(tmp_path))


def test_a_context_is_the_shorter_one_where_positions_depend_on_it(tmp_path) -> None:
    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "rope_theta": 10000.0,
        "original_max_position_embeddings": 64,
    }
    config = Phi3Config(
        **HEADS,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    assert with_context(find_trio("t", trio_file(tmp_path))).max_context == 64


def test_other_quantizations_are_refused_by_name(tmp_path) -> None:
    tiny.make_model("llama", 363).save_pretrained(tmp_path / "base")
    edit_config(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "is quantized by gptq" in refuse(trio_file(tmp_path))


def test_a_context_that_nobody_gave_is_the_bases(tmp_path) -> None:
    tiny.make_model("llama", 363).save_pretrained(tmp_path / "base")
    edit_config(tmp_path, max_position_embeddings=64)
    trio = find_trio("t", trio_file(tmp_path))
    assert with_context(trio).max_context == 64
    assert open_backend(trio).trio.max_context == 64
    with pytest.raises(PromptError, match="the context of t is 64"):
        preview(trio, Prompt("word " * 200))
    given = trio_file(tmp_path, more="max_context = 128")
    says = "asks for a context of 128 tokens, but .* was made for 64. Lower max_context, or leave"
    with pytest.raises(WeightsError, match=says):
        with_context(find_trio("t", given))
