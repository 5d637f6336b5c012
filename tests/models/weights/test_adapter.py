"""Adapters of every kind: served as PEFT serves them, beside an untouched base, or refused."""

from __future__ import annotations

import json
import re
import shutil
from copy import deepcopy
from pathlib import Path

import peft
import pytest
import tiny
import torch
from bitsandbytes.nn import Params4bit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.fused_linear import fuse_linears
from models.engine.layers.multi_lora import stack_adapters
from models.engine.layers.rms_norm import replace_norms
from models.engine.layers.tuned_modules import tune_embeddings, tune_inner_modules
from models.errors import WeightsError
from models.types import Sampling
from models.weights.adapter import changes_nothing, read_adapter
from models.weights.base_check import base_digest

IDS = (2, 5, 40, 41, 7, 9, 5, 60)
TRAINED = [5, 9, 60]
BOTH = ["q_proj", "v_proj"]
SERVED = {
    "lora": LoraConfig(r=4, lora_alpha=8, target_modules=tiny.LINEAR),
    "patterns": LoraConfig(
        r=4,
        target_modules=tiny.LINEAR,
        use_rslora=True,
        rank_pattern={"q_proj": 2, "layers.1.self_attn.k_proj": 6},
        alpha_pattern={"v_proj": 16},
    ),
    "some layers": LoraConfig(r=4, target_modules=BOTH, layers_to_transform=[1]),
    "a pattern": LoraConfig(r=4, target_modules=r".*layers\.0.*(up|down)_proj"),
    "excluded": LoraConfig(r=4, target_modules=BOTH, exclude_modules=["layers.0.self_attn.q_proj"]),
    "all-linear": LoraConfig(r=4, target_modules="all-linear"),
    "all-linear but some": LoraConfig(
        r=4, target_modules="all-linear", exclude_modules=["q_proj"], modules_to_save=["k_proj"]
    ),
    "dora": LoraConfig(r=4, target_modules=tiny.LINEAR, use_dora=True),
    "dora on some": LoraConfig(r=4, target_modules=["o_proj"], use_dora=True),
    "head": LoraConfig(r=4, target_modules=["q_proj", "lm_head"]),
    "embedding": LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
    "embedding and head": LoraConfig(r=4, target_modules=["embed_tokens", "lm_head"]),
    "tied embedding": LoraConfig(
        r=4, target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True
    ),
    "token rows": LoraConfig(r=4, target_modules=BOTH, trainable_token_indices=TRAINED),
    "named token rows": LoraConfig(
        r=4, target_modules=BOTH, trainable_token_indices={"embed_tokens": TRAINED}
    ),
    "token rows and head": LoraConfig(
        r=4, target_modules=["q_proj", "lm_head"], trainable_token_indices=TRAINED
    ),
    "token rows alone": TrainableTokensConfig(
        token_indices=TRAINED, target_modules=["embed_tokens"]
    ),
    "whole head": LoraConfig(r=4, target_modules=BOTH, modules_to_save=["lm_head"]),
    "whole embedding": LoraConfig(r=4, target_modules=BOTH, modules_to_save=["embed_tokens"]),
    "tied": LoraConfig(
        r=4, target_modules=BOTH, modules_to_save=["embed_tokens"], ensure_weight_tying=True
    ),
    "whole both": LoraConfig(r=4, target_modules=BOTH, modules_to_save=["embed_tokens", "lm_head"]),
    "whole norms": LoraConfig(
        r=4, target_modules=BOTH, modules_to_save=["input_layernorm", "norm"]
    ),
    "whole linears": LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["k_proj", "o_proj"]
    ),
    "eva": LoraConfig(
        r=4, target_modules=BOTH, init_lora_weights="eva", eva_config=peft.EvaConfig()
    ),
    "gaussian": LoraConfig(r=4, target_modules=BOTH, init_lora_weights="Gaussian"),
    "orthogonal": LoraConfig(r=4, target_modules=BOTH, init_lora_weights="orthogonal"),
}
"""Kinds that are served, as PEFT makes them."""
REFUSED = {
    "IA3": peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LOHA": peft.LoHaConfig(r=4, target_modules=BOTH),
    "LOKR": peft.LoKrConfig(r=4, target_modules=BOTH),
    "VERA": peft.VeraConfig(r=4, target_modules=["q_proj"]),
    "ADALORA": peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=BOTH),
    "OFT": peft.OFTConfig(r=4, oft_block_size=0, target_modules=["q_proj"]),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "FOURIERFT": peft.FourierFTConfig(n_frequency=8, target_modules=["q_proj"]),
    "PROMPT_TUNING": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "PREFIX_TUNING": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "bias = 'lora_only'": LoraConfig(r=4, target_modules=BOTH, bias="lora_only"),
    "bias = 'all'": LoraConfig(r=4, target_modules=BOTH, bias="all"),
    "pissa": LoraConfig(r=4, target_modules=BOTH, init_lora_weights="pissa"),
    "olora": LoraConfig(r=4, target_modules=BOTH, init_lora_weights="olora"),
    "lora_bias = True": LoraConfig(r=4, target_modules=BOTH, lora_bias=True),
    "mlp is LlamaMLP, which is not served whole": LoraConfig(
        r=4, target_modules=BOTH, modules_to_save=["mlp"]
    ),
    "is DoRA on model.embed_tokens": LoraConfig(
        r=4, target_modules=["embed_tokens", "q_proj"], use_dora=True
    ),
    "is DoRA on lm_head": LoraConfig(r=4, target_modules=["q_proj", "lm_head"], use_dora=True),
}
"""Kinds that are refused, by the word that the refusal names them with."""


def random_base(folder: Path, family: str, tied: bool = True, biased: bool = False) -> Path:
    """Write a random base; Llama can have biases and a head of its own."""
    if family == "llama":
        torch.manual_seed(0)
        shape = tiny.make_model("llama").config.to_dict()
        config = LlamaConfig(**shape | {"attention_bias": biased, "tie_word_embeddings": tied})
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.normal_()
    else:
        model = tiny.make_model(family)
    model.save_pretrained(folder)
    return folder


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save(
    base: Path, folder: Path, config, seed: int = 5, noise: float = 0.6, embeddings: bool = False
) -> Path:
    """Write an adapter with random values, as PEFT saves it; without noise, one not trained."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        model = get_peft_model(load(base), deepcopy(config))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn_like(weight) * noise)
        for own in model.peft_config.values():
            own.base_model_name_or_path = str(base)
        model.save_pretrained(folder, save_embedding_layers=embeddings)
    return folder


@torch.inference_mode()
def by_peft(base: Path, folder: Path) -> torch.Tensor:
    """Return the logits that PEFT computes with this adapter alone, (T, V)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        model = PeftModel.from_pretrained(load(base), folder).eval()
    return model(input_ids=torch.tensor([IDS])).logits[0]


def engine_of(base: Path, *folders: Path) -> Engine:
    """Return an engine with adapters; loading them must not have changed the base."""
    model = load(base).requires_grad_(False)
    before = base_digest(model)
    adapters = [read_adapter(folder, model) for folder in folders]
    active = stack_adapters(model, adapters, torch.float32)
    tune_inner_modules(model, adapters, active)
    assert base_digest(model) == before
    fuse_linears(model)
    replace_norms(model)
    tune_embeddings(model, adapters, active)
    return Engine(model, active)


@torch.inference_mode()
def logits(engine: Engine, adapter: int, strength: float = 1.0) -> torch.Tensor:
    states = engine.hidden_states(SequenceSpec(IDS, adapter, strength))
    return engine.lm.exact_head(states)


ON_FAMILIES = [
    *(("llama biased", kind) for kind in SERVED),
    *(("gemma3", kind) for kind in SERVED),
    *(("qwen3", kind) for kind in ("lora", "dora", "whole norms")),
    *(("llama untied", kind) for kind in SERVED if "token" in kind or "whole" in kind),
]


@pytest.mark.parametrize(("family", "kind"), ON_FAMILIES)
def test_a_served_adapter_computes_what_peft_computes(tmp_path, family, kind) -> None:
    name, _, more = family.partition(" ")
    base = random_base(tmp_path / "base", name, more != "untied", more == "biased")
    plain = save(base, tmp_path / "plain", SERVED["lora"], seed=6)
    tuned = save(base, tmp_path / "tuned", SERVED[kind])
    with torch.inference_mode():
        alone = load(base)(input_ids=torch.tensor([IDS])).logits[0]
    engine = engine_of(base, plain, tuned)
    close = {"rtol": 2e-4, "atol": 2e-4}
    torch.testing.assert_close(logits(engine, 2), by_peft(base, tuned), **close)
    torch.testing.assert_close(logits(engine, 1), by_peft(base, plain), **close)
    torch.testing.assert_close(logits(engine, 0), alone, **close)
    assert torch.equal(logits(engine, 2, 0.0), logits(engine, 0))
    assert (logits(engine, 2) - alone).abs().max() > 2e-3


@torch.inference_mode()
def by_mixed_weights(base: Path, folder: Path, strength: float) -> torch.Tensor:
    """Return the logits of base + strength · (merged by PEFT - base), weight by weight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        merged = PeftModel.from_pretrained(load(base), folder).merge_and_unload().eval()
    alone = dict(load(base).named_parameters(remove_duplicate=False))
    for name, weight in merged.named_parameters():
        weight.data = torch.lerp(alone[name], weight, strength)
    return merged(input_ids=torch.tensor([IDS])).logits[0]


@pytest.mark.parametrize("strength", [0.5, 1.5])
@pytest.mark.parametrize("kind", SERVED)
def test_strength_mixes_the_weights_of_base_and_adapter(tmp_path, kind, strength) -> None:
    # Untied, as PEFT merges an update of one of two tied matrices into both.
    base = random_base(tmp_path / "base", "llama", tied=False)
    tuned = save(base, tmp_path / "tuned", SERVED[kind])
    expected = by_mixed_weights(base, tuned, strength)
    ours = logits(engine_of(base, tuned), 1, strength)
    torch.testing.assert_close(ours, expected, rtol=2e-4, atol=2e-4)


def test_rows_of_one_batch_have_their_own_embeddings_and_heads(tmp_path) -> None:
    base = random_base(tmp_path / "base", "gemma3")
    kinds = ("token rows", "whole both", "head", "dora")
    folders = [save(base, tmp_path / kind, SERVED[kind]) for kind in kinds]
    engine = engine_of(base, *folders)
    rows = [SequenceSpec(IDS, n % 5) for n in range(8)]
    engine.max_guesses = 0
    sequences = [engine.add(row, Sampling(4)) for row in rows]
    firsts = [engine.prefill(sequence) for sequence in sequences]
    steps = engine.start_step(sequences)()
    for n, row in enumerate(rows):
        assert firsts[n].id == int(logits(engine, row.adapter)[-1].argmax())
        assert firsts[n] == firsts[n % 5]
        assert [token.id for token in steps[n]] == [token.id for token in steps[n % 5]]


@pytest.mark.parametrize("word", REFUSED)
def test_a_kind_that_would_change_the_base_is_refused_by_name(tmp_path, word) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", REFUSED[word])
    with pytest.raises(WeightsError) as caught:
        engine_of(base, folder)
    assert word in str(caught.value)
    assert "belongs to no module" not in str(caught.value)  # its parts are told by its name
    assert "\n" not in str(caught.value)


def test_every_kind_that_peft_knows_is_served_or_refused(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    for kind in peft.PeftType:
        if kind not in ("LORA", "TRAINABLE_TOKENS"):
            edit(folder, peft_type=str(kind.value))
            with pytest.raises(WeightsError, match=f"is {kind.value}, and would not leave"):
                engine_of(base, folder)


def edit(folder: Path, **values) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rename(folder: Path, change) -> None:
    """Rename the adapter's tensors; None drops one."""
    path = folder / "adapter_model.safetensors"
    tensors = {change(key): tensor for key, tensor in load_file(path).items()}
    save_file({key: tensor for key, tensor in tensors.items() if key}, path)


def change_tensor(folder: Path, change) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(key for key in tensors if "lora_B" in key)
    save_file(tensors | {first: change(tensors[first])}, path)


def to_pickle(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    torch.save(load_file(path), folder / "adapter_model.bin")
    path.unlink()


MISFITS = {
    "of a wrapped model": (
        lambda f: rename(f, lambda k: k.replace("model.layers", "language_model.layers")),
        "the base has no language_model.layers.*; and 25 more",
    ),
    "without its prefix": (
        lambda f: rename(f, lambda k: k.removeprefix("base_model.model.")),
        "belongs to no module",
    ),
    "half of the layers": (
        lambda f: rename(f, lambda k: k if "layers.0" in k else None),
        r"model.layers.1.* is a target and has no tensors; .*; and 4 more",
    ),
    "more than the targets": (
        lambda f: edit(f, target_modules=["q_proj"]),
        "has tensors and is no target",
    ),
    "no B": (
        lambda f: rename(f, lambda k: k if "q_proj.lora_B" not in k else None),
        "needs a and b",
    ),
    "another rank": (lambda f: edit(f, r=2), r"has a of \(4, 32\) and needs \(2, 32\)"),
    "another width": (lambda f: change_tensor(f, lambda t: t[:-1].clone()), "and needs"),
    "not a number": (lambda f: change_tensor(f, lambda t: t * torch.nan), "is not finite"),
    "DoRA without magnitudes": (lambda f: edit(f, use_dora=True), "needs a and b and magnitude"),
    "a pickle": (to_pickle, "a pickle, which can run code"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "weights are not there"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "there is no adapter_config"),
    "no kind": (lambda f: (f / "adapter_config.json").write_text("{}"), "has no peft_type"),
    "rank 0": (lambda f: edit(f, r=0), "r is 0; it must be a whole number above 0"),
    "an option of tomorrow": (
        lambda f: edit(f, use_tomorrow=[1]),
        r"sets use_tomorrow = \[1\], which PEFT .* does not know. If it has no effect",
    ),
    "an option of today": (lambda f: edit(f, lora_bias=True), "lora_bias = True, which is not"),
    "a module without a name": (
        lambda f: edit(f, modules_to_save=[""]),
        r"modules_to_save is \[''\]; it must be a list of names or null",
    ),
    "another start": (lambda f: edit(f, init_lora_weights="loftq"), "began as loftq, which sub"),
    "a start of tomorrow": (
        lambda f: edit(f, init_lora_weights="new"),
        "init_lora_weights is 'new', and whether that leaves the base alone is not known here",
    ),
    "a pointer of Git LFS": (
        lambda f: (f / "adapter_model.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        "is a pointer of Git LFS; get the file by git lfs pull",
    ),
    "keys of a wrapper": (
        lambda f: rename(f, lambda k: k.replace(".weight", ".default.weight")),
        r"fit its base: model.layers.0.*lora_A.default.weight belongs to no module of the base",
    ),
    "added tokens": (lambda f: add_tokens(f), "it has 3 added tokens, for which the base's"),
    "trained tokens without rows": (
        lambda f: edit(f, trainable_token_indices=[3]),
        "has trained tokens and no rows",
    ),
    "a module without its tensors": (
        lambda f: edit(f, modules_to_save=["lm_head"]),
        "lm_head is to be saved whole and has no tensors",
    ),
    "a module that is none": (
        lambda f: add(f, "base_model.model.model.rotary.weight", torch.ones(2)),
        "model.rotary.weight belongs to no module",
    ),
}


def add(folder: Path, key: str, tensor: torch.Tensor) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | {key: tensor}, path)


def add_tokens(folder: Path) -> None:
    add(folder, "base_model.model.model.embed_tokens.weight", torch.randn(99, 32))


@pytest.mark.parametrize("name", MISFITS)
def test_an_adapter_is_whole_or_refused(tmp_path, name) -> None:
    change, says = MISFITS[name]
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    change(folder)
    with pytest.raises(WeightsError, match=says) as caught:
        engine_of(base, folder)
    assert "\n" not in str(caught.value)


def test_saved_copies_of_the_bases_embeddings_change_nothing(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    weight = load(base).get_input_embeddings().weight.detach()
    add(folder, "base_model.model.model.embed_tokens.weight", weight.clone())
    model = load(base)
    assert not read_adapter(folder, model).modules
    assert not changes_nothing(read_adapter(folder, model))


@pytest.mark.parametrize("kind", SERVED)
def test_an_adapter_that_changes_nothing_is_told(tmp_path, kind) -> None:
    base = random_base(tmp_path / "base", "llama")
    fresh = save(base, tmp_path / "fresh", SERVED[kind], noise=0.0)
    assert changes_nothing(read_adapter(fresh, load(base)))
    tuned = save(base, tmp_path / "tuned", SERVED[kind])
    assert not changes_nothing(read_adapter(tuned, load(base)))


def test_every_tensor_counts_in_the_bases_hash(tmp_path) -> None:
    model = load(random_base(tmp_path / "base", "llama", biased=True))
    seen = {base_digest(model)}
    for tensor in [*model.parameters(), *model.buffers()]:
        with torch.no_grad():
            tensor.view(-1)[-1] += 1
        seen.add(base_digest(model))
    assert len(seen) == 1 + len([*model.parameters(), *model.buffers()])


def test_scales_of_4_bit_weights_count_in_the_bases_hash() -> None:
    model = torch.nn.Sequential(tiny.four_bit(torch.randn(64, 64).bfloat16()))
    before = base_digest(model)
    model[0].weight.quant_state.absmax[0] += 1
    assert base_digest(model) != before


@pytest.mark.parametrize("part", ["offset", "absmax"])
def test_scales_of_scales_count_in_the_bases_hash(part) -> None:
    weight = Params4bit(torch.randn(64, 64), quant_type="nf4", compress_statistics=True).to("cpu")
    model = torch.nn.Sequential(torch.nn.Identity())
    model[0].weight = weight
    state = weight.quant_state
    before = base_digest(model)
    (state.offset if part == "offset" else state.state2.absmax).add_(1)
    assert base_digest(model) != before


@pytest.mark.parametrize("alpha", [float("inf"), 1e30])
def test_an_update_that_is_no_number_is_refused_beside_the_base(tmp_path, alpha) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    edit(folder, lora_alpha=alpha)
    with pytest.raises(WeightsError, match=r"lora_alpha is .* must be a number above 0"):
        engine_of(base, folder)
    edit(folder, lora_alpha=1e8)
    change_tensor(folder, lambda t: t * 1e30)
    change_tensor(folder, lambda t: t * 1e8)
    with pytest.raises(WeightsError, match=r"is not finite in torch\.float32"):
        engine_of(base, folder)


def test_token_rows_of_an_untied_head_alone_are_served(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama", tied=False)
    config = TrainableTokensConfig(token_indices=TRAINED, target_modules=["lm_head"])
    tuned = save(base, tmp_path / "tuned", config)
    expected = by_peft(base, tuned)
    torch.testing.assert_close(logits(engine_of(base, tuned), 1), expected, rtol=2e-4, atol=2e-4)


COPIES = {
    "head": ("head", "lm_head.base_layer.weight"),
    "embedding": ("embedding", "model.embed_tokens.base_layer.weight"),
    "embedding, not trained": ("lora", "model.embed_tokens.weight"),
    "head, not trained": ("lora", "lm_head.weight"),
    "rows": ("token rows", "model.embed_tokens.token_adapter.base_layer.weight"),
    "whole head": ("whole head", "lm_head.original_module.weight"),
}
"""Kinds of adapters beside which PEFT saves the base's own layer, and the layer's key."""


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", COPIES)
def test_the_bases_layer_that_peft_saved_takes_part(tmp_path, name, tied) -> None:
    kind, key = COPIES[name]
    base = random_base(tmp_path / "base", "llama", tied)
    tuned = save(base, tmp_path / "tuned", SERVED[kind])
    is_head = key.startswith("lm_head")
    model = load(base)
    layer = model.get_output_embeddings() if is_head else model.get_input_embeddings()
    weight, without = layer.weight.detach(), read_adapter(tuned, model).modules.keys()
    add(tuned, f"base_model.model.{key}", weight.half())  # the base's own, rounded
    assert read_adapter(tuned, model).modules.keys() == without
    add(tuned, f"base_model.model.{key}", (weight + torch.randn_like(weight) * 0.1).contiguous())
    engine = engine_of(base, tuned)
    torch.testing.assert_close(logits(engine, 1), by_peft(base, tuned), rtol=2e-4, atol=2e-4)
    with torch.inference_mode():
        alone = model(input_ids=torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(logits(engine, 0), alone, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", ["whole both", "whole head", "token rows", "head", "embedding"])
def test_adapters_saved_with_the_bases_embeddings_are_served(tmp_path, kind) -> None:
    base = random_base(tmp_path / "base", "llama", tied=False)
    tuned = save(base, tmp_path / "tuned", SERVED[kind], embeddings=True)
    expected = by_peft(base, tuned)
    torch.testing.assert_close(logits(engine_of(base, tuned), 1), expected, rtol=2e-4, atol=2e-4)


def test_rows_of_tied_embeddings_are_saved_once(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama")
    both = {"embed_tokens": TRAINED, "lm_head": TRAINED}
    config = LoraConfig(r=4, target_modules=BOTH, trainable_token_indices=both)
    tuned = save(base, tmp_path / "tuned", config)
    expected = by_peft(base, tuned)
    torch.testing.assert_close(logits(engine_of(base, tuned), 1), expected, rtol=2e-4, atol=2e-4)


def test_an_adapter_of_the_older_layout_of_models_that_see_is_read(tmp_path) -> None:
    torch.manual_seed(0)
    vision = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(
        text_config=tiny.make_model("gemma3").config.to_dict(),
        vision_config=vision | {"hidden_size": 32, "intermediate_size": 32},
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "base")
    model = load(tmp_path / "base")
    path = next(path for path, _ in model.named_modules() if path.endswith("layers.1.mlp.up_proj"))
    assert "model.language_model." in path
    old = path.replace("model.language_model.", "language_model.model.")
    (tmp_path / "tuned").mkdir()
    values = {"peft_type": "LORA", "r": 2, "target_modules": r".*language_model.*1\.mlp\.up_proj"}
    (tmp_path / "tuned" / "adapter_config.json").write_text(json.dumps(values))
    tensors = {"lora_A": torch.randn(2, 32), "lora_B": torch.randn(64, 2)}
    save_file(
        {f"base_model.model.{old}.{name}.weight": tensor for name, tensor in tensors.items()},
        tmp_path / "tuned" / "adapter_model.safetensors",
    )
    (update,) = read_adapter(tmp_path / "tuned", model).lora.items()
    assert update[0] == path


def test_tensors_of_8_bit_floats_are_read(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    change_tensor(folder, lambda t: t.to(torch.float8_e4m3fn))
    torch.testing.assert_close(
        logits(engine_of(base, folder), 1), by_peft(base, folder), rtol=2e-4, atol=2e-4
    )


def test_a_config_without_targets_is_told_as_such(tmp_path) -> None:
    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    edit(folder, target_modules=None)
    with pytest.raises(WeightsError, match="tuned names no target_modules"):
        engine_of(base, folder)


def test_an_adapter_of_a_copy_of_the_base_is_accepted(tmp_path) -> None:
    from models.types import Pin
    from models.weights.adapter_config import read_adapter_config
    from models.weights.base_check import check_trained_on

    base = random_base(tmp_path / "base", "llama")
    folder = save(base, tmp_path / "tuned", SERVED["lora"])
    copy = shutil.copytree(base, tmp_path / "copy")
    pin = Pin("acme/base", "abc")
    for trained_on in (str(copy), "acme/base", "acme/base@abc", "Acme/Base"):
        edit(folder, base_model_name_or_path=trained_on)
        check_trained_on(read_adapter_config(folder), pin, base)
    other = random_base(tmp_path / "other", "qwen3")
    for trained_on in (str(other), "acme/other", "/content/model", "", None):
        edit(folder, base_model_name_or_path=trained_on)
        with pytest.raises(WeightsError, match="same_base = true"):
            check_trained_on(read_adapter_config(folder), pin, base)
    edit(folder, base_model_name_or_path=3)
    with pytest.raises(WeightsError, match="is 3; it must be text or null"):
        read_adapter_config(folder)


OPTIONS = {
    "peft_type": st.sampled_from([kind.value for kind in peft.PeftType])
    | st.none()
    | st.integers(),
    "r": st.integers(-1, 6) | st.text(max_size=2),
    "lora_alpha": st.integers(-1, 9) | st.none(),
    "bias": st.sampled_from(["none", "all", "lora_only"]),
    "use_dora": st.booleans(),
    "use_rslora": st.booleans(),
    "target_modules": st.sampled_from(
        [None, [], ["q_proj"], tiny.LINEAR, "all-linear", ".*_proj", "(", ["self_attn"], 3]
    ),
    "exclude_modules": st.sampled_from([None, ["q_proj"], ".*q_proj"]),
    "layers_to_transform": st.sampled_from([None, 0, [1], [0, 1], [7]]),
    "modules_to_save": st.sampled_from([None, ["lm_head"], ["norm"], ["mlp"], []]),
    "trainable_token_indices": st.sampled_from([None, [3], {"embed_tokens": [1]}, [-1], "x"]),
    "init_lora_weights": st.sampled_from([True, False, "eva", "pissa", "pissa_niter_4", "x", []]),
    "rank_pattern": st.sampled_from([{}, {"q_proj": 2}, {"(": 2}, [], {"q_proj": "a"}]),
    "lora_bias": st.booleans(),
    "layer_replication": st.sampled_from([None, [[0, 2]]]),
    "alora_invocation_tokens": st.sampled_from([None, [1, 2]]),
    "use_tomorrow": st.sampled_from([None, True]),
    "base_model_name_or_path": st.none() | st.text(max_size=3) | st.integers(),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a base, its hash, and the folder of a plain adapter on all linear layers."""
    folder = tmp_path_factory.mktemp("whole")
    model = load(random_base(folder / "base", "llama"))
    return model, base_digest(model), save(folder / "base", folder / "tuned", SERVED["lora"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    options=st.lists(st.sampled_from(list(OPTIONS)), max_size=3, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: OPTIONS[key] for key in keys})
    )
)
def test_any_config_is_served_whole_or_refused_in_a_line(whole, tmp_path, options) -> None:
    model, digest, folder = whole
    changed = shutil.copytree(folder, tmp_path / "changed", dirs_exist_ok=True)
    (changed / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    edit(changed, **options)
    refusal, adapter = "", None
    try:
        adapter = read_adapter(changed, model)
    except WeightsError as error:
        refusal = str(error)
    assert base_digest(model) == digest
    if adapter is None:
        assert re.fullmatch(r".+", refusal)
        return
    assert len(adapter.lora) == 14  # every tensor of the file, whatever the config says
    assert not options.get("trainable_token_indices")
    assert options.get("bias", "none") == "none"


@pytest.mark.parametrize(
    "kind", ["lora", "dora", "embedding", "tied", "token rows", "norms", "layer"]
)
def test_gpt2_whose_weights_lie_otherwise_is_served(tmp_path, kind) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=2, eos_token_id=1)).save_pretrained(
        tmp_path / "base"
    )
    options = {
        "dora": {"use_dora": True},
        "embedding": {"modules_to_save": ["wte"]},
        "tied": {"modules_to_save": ["wte"], "ensure_weight_tying": True},  # PEFT does not tie wte
        "token rows": {"trainable_token_indices": {"wte": TRAINED}},
        "norms": {"modules_to_save": ["ln_1", "ln_f"]},
        "layer": {"modules_to_save": ["attn.c_proj"]},  # square: its turn would not show in shapes
    }
    config = LoraConfig(
        r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, **options.get(kind, {})
    )
    tuned = save(tmp_path / "base", tmp_path / "tuned", config)
    engine = engine_of(tmp_path / "base", tuned)
    expected = by_peft(tmp_path / "base", tuned)
    torch.testing.assert_close(logits(engine, 1), expected, rtol=2e-4, atol=2e-4)
