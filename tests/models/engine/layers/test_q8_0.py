"""An embedding in the 8 bits that it came in: the same values, to the bit, or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.engine.layers.dequantized import Float32Embedding, Float32Head
from models.engine.layers.q8_0 import (
    Q8Embedding,
    Q8Head,
    Q8Matrix,
    equal_q8_digest,
    read_q8,
    row_chunks,
    use_q8_embedding,
)
from models.engine.sampling.int8_matmul import Int8Matrix, quantize_rows
from models.engine.sampling.lm_head import ExactHead

ROWS, WIDTH = 5000, 64


def coded(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scales, and the values that they stand for, in bf16."""
    made = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, (ROWS, WIDTH), dtype=torch.int8, generator=made)
    scales = (torch.rand(ROWS, WIDTH // 32, generator=made) * 1e-3).half()
    values = codes.view(ROWS, -1, 32).double() * scales.double()[..., None]
    return codes, scales, values.view(ROWS, WIDTH).to(torch.bfloat16)


class Scaled(nn.Embedding):
    """Multiplies what it tells, as Gemma does."""

    embed_scale = torch.tensor(8.25)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * self.embed_scale.to(self.weight.dtype)


class Other(nn.Embedding):
    """Does with what it tells what is not known here."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) + 1


class Doubled(nn.Embedding):
    """Multiplies by a number that is no tensor."""

    embed_scale = 2.0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) * self.embed_scale


class Model(nn.Module):
    """An embedding, and a head that is it."""

    def __init__(self, weight: torch.Tensor, kind: type[nn.Embedding] = Scaled) -> None:
        super().__init__()
        self.embedding = kind.from_pretrained(weight)
        self.head = nn.Linear(WIDTH, ROWS, bias=False, device="meta")
        self.head.weight = self.embedding.weight
        self.config = SimpleNamespace(get_text_config=lambda: None)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def set_input_embeddings(self, new: nn.Module) -> None:
        self.embedding = new

    def set_output_embeddings(self, new: nn.Module) -> None:
        self.head = new


def stored(path, codes, scales):
    save_file({"codes": codes, "scales": scales}, path)
    return path


def test_rows_and_parts_are_the_values_to_the_bit() -> None:
    codes, scales, values = coded()
    blocks = Q8Matrix(codes, scales, torch.bfloat16)
    ids = torch.tensor([[0, 4999], [7, 7]])
    assert torch.equal(blocks[ids], values[ids])
    assert torch.equal(torch.cat([part.clone() for part in blocks.chunks(768)]), values)
    assert len(blocks) == ROWS
    assert blocks.nbytes == ROWS * WIDTH * 34 // 32


def use_blocks(model, path) -> str:
    digest = equal_q8_digest(model, path)
    if matrix := read_q8(path, torch.bfloat16, digest):
        use_q8_embedding(model, matrix)
    return digest


def test_what_does_not_belong_together_is_refused() -> None:
    codes, scales, _ = coded()
    with pytest.raises(ValueError, match="scales"):
        Q8Matrix(codes, scales[:, :1], torch.bfloat16)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [nn.Embedding, Scaled])
def test_a_model_in_blocks_computes_what_it_did(tmp_path, kind) -> None:
    codes, scales, values = coded()
    model, ids = Model(values, kind), torch.tensor([[3, 1, 4999]])
    embeddings, hidden = model.embedding(ids), torch.randn(7, WIDTH).to(torch.bfloat16)
    logits = torch.nn.functional.linear(hidden, values)
    use_blocks(model, stored(tmp_path / "blocks", codes, scales))
    assert isinstance(model.embedding, Q8Embedding)
    assert isinstance(model.head, Q8Head)
    assert torch.equal(model.embedding(ids), embeddings)
    torch.testing.assert_close(model.head(hidden), logits)
    assert (
        sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
        == codes.nbytes * 34 // 32
    )
    head, targets = ExactHead(model), torch.arange(7)
    assert torch.equal(
        head.logits_of(hidden, targets), (hidden.float() * values[:7].float()).sum(-1)
    )


@torch.inference_mode()
def test_in_float32_and_in_the_copy_of_the_head_they_are_the_same_values(tmp_path) -> None:
    codes, scales, values = coded()
    whole, blocked = Model(values), Model(values)
    use_blocks(blocked, stored(tmp_path / "blocks", codes, scales))
    states, ids = torch.randn(5, WIDTH), torch.tensor([[3, 1]])
    assert torch.equal(Float32Head(blocked.head)(states), Float32Head(whole.head)(states))
    assert torch.equal(
        Float32Embedding(blocked.embedding)(ids), Float32Embedding(whole.embedding)(ids)
    )
    rough = [torch.empty(5, ROWS), torch.empty(5, ROWS)]
    for model, out in zip((whole, blocked), rough, strict=True):
        Int8Matrix(quantize_rows(model.head.weight)).multiply(states, out)
    assert torch.equal(*rough)
    assert sum(map(len, row_chunks(values, 768))) == sum(
        map(len, row_chunks(blocked.head.weight, 768))
    )


@pytest.mark.parametrize(
    "why",
    ["no file", "damaged", "another value", "another shape", "one row", "wide codes",
     "wide scales", "untied", "unknown", "a number"],
)  # fmt: skip
def test_a_model_that_is_not_the_same_stays_as_it_is(tmp_path, caplog, why) -> None:
    codes, scales, values = coded()
    model = Model(values, {"unknown": Other, "a number": Doubled}.get(why, Scaled))
    if why == "untied":
        model.head.weight = nn.Parameter(values.clone(), requires_grad=False)
    if why == "another value":
        codes[-1, -1] ^= 1
    if why == "another shape":
        codes, scales = codes[:-1], scales[:-1]
    if why == "one row":
        codes = codes[0]
    if why == "wide codes":
        codes = codes.float()
    if why == "wide scales":
        scales = scales.float()
    path = tmp_path / "blocks"
    if why != "no file":
        stored(path, codes, scales)
    if why == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    use_blocks(model, path)
    assert isinstance(model.head, nn.Linear)
    assert isinstance(model.embedding, nn.Embedding)
    assert ("not used" in caplog.text) == (why not in ("no file", "untied", "unknown", "a number"))


def test_blocks_that_changed_since_they_were_compared_are_not_used(tmp_path, caplog) -> None:
    codes, scales, values = coded()
    path = stored(tmp_path / "blocks", codes, scales)
    digest = equal_q8_digest(Model(values), path)
    assert digest
    codes[-1, -1] ^= 1
    assert read_q8(stored(path, codes, scales), torch.bfloat16, digest) is None
    assert "has changed, and is not used" in caplog.text
