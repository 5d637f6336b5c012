"""What a processor without a product of 4 bits computes instead."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import tiny
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Int8Params, Linear8bitLt
from torch import nn

from models.engine import reference
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers import packed_matmul
from models.engine.layers.dequantized import (
    DequantizedLinear,
    needs_dequantized,
    to_float32,
    unpack_int8,
    weight_values,
)
from models.engine.layers.fused_linear import fuse_linears
from models.engine.layers.multi_lora import ActiveAdapters, MultiLoraLinear
from models.engine.layers.nf4 import has_nf4_matmul, unpack_odd_layers
from models.engine.layers.packed_matmul import (
    Fp16Matrix,
    OneDnnMatrix,
    UnpackedMatrix,
    has_fbgemm,
    has_onednn,
)
from models.engine.sampling.int8_matmul import Int8Matrix, quantize_rows
from models.engine.sampling.lm_head import ExactHead
from models.types import Sampling

ROWS = [
    SequenceSpec(tuple(range(5, 10))),
    SequenceSpec(tuple(range(20, 29)), 1),
    SequenceSpec((2, 40, 41), 2),
]
fbgemm = pytest.mark.skipif(not has_fbgemm(), reason="needs FBGEMM, which x86 has")


def same(alone: torch.Tensor, together: torch.Tensor) -> bool:
    """Whether a row's result is the same in company: to the bit, where oneDNN multiplies."""
    if has_onednn():
        return torch.equal(alone, together)
    return torch.allclose(alone, together, rtol=1e-4, atol=1e-4)


def states(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=tiny.FAMILIES)
def family(request) -> str:
    return request.param


def test_a_widened_model_says_what_it_said(family) -> None:
    def sequences(wide: bool) -> list[list[int]]:
        model = tiny.make_model(family)
        carried = tiny.stack(model)
        fuse_linears(model)
        if wide:
            to_float32(model)
        tokens = reference.generate(model, carried, ROWS, Sampling(16))
        return [[token.id for token in row] for row in tokens]

    assert sequences(wide=True) == sequences(wide=False)


def test_a_widened_model_of_narrow_weights_computes_in_float32(family) -> None:
    model = tiny.make_model(family).to(torch.bfloat16)
    carried = tiny.stack(model)
    fuse_linears(model)
    to_float32(model)
    assert [len(row) for row in reference.generate(model, carried, ROWS, Sampling(8))] == [8, 8, 8]
    engine = Engine(model, carried)
    assert engine.lm.kv_shape.dtype == torch.float32
    assert engine.hidden_states(ROWS[1]).dtype == torch.float32
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert sum(isinstance(module, DequantizedLinear) for module in model.modules()) == 2 * 4


def test_a_dense_layer_holds_the_values_that_4_bits_stand_for() -> None:
    model = nn.Sequential(tiny.four_bit(states(96, 640).bfloat16()), tiny.four_bit(states(64, 96)))
    model.get_output_embeddings = lambda: model[1]
    model.get_input_embeddings = lambda: model[1]
    model.set_input_embeddings = model.set_output_embeddings = lambda layer: None
    values = dequantize_4bit(model[0].weight.data, model[0].weight.quant_state).float()
    to_float32(model)
    x = states(3, 640) / 16
    assert isinstance(model[0], DequantizedLinear)
    assert isinstance(model[0].matrix, Fp16Matrix) == has_fbgemm()
    torch.testing.assert_close(model[0](x), (x.double() @ values.double().T).float())


@pytest.mark.parametrize("narrow", [True, False], ids=["float16", "float32"])
def test_a_dense_layer_gives_each_row_what_it_gets_alone(narrow) -> None:
    weight, x = states(96, 640), states(140, 1, 640)
    layer = DequantizedLinear(weight.bfloat16() if narrow else weight, None)
    whole = layer(x)
    assert all(same(layer(x[n : n + 1])[0], whole[n]) for n in range(len(x)))
    for count in range(1, len(x)):  # as parts of a text do, too
        assert same(layer(x[:count].view(1, count, -1))[0], whole[:count, 0])


@fbgemm
@pytest.mark.parametrize(
    ("weight", "kind"),
    [
        (states(8, 640).bfloat16().float(), Fp16Matrix),
        (2.0 ** -(torch.arange(640.0) % 40).expand(8, 640), Fp16Matrix),
        (states(8, 640), OneDnnMatrix),
        (1e-6 * states(8, 640), OneDnnMatrix),
        (torch.full((8, 640), 65520.0), OneDnnMatrix),
        (states(8, 96).bfloat16().float(), OneDnnMatrix),
    ],
    ids=["of bf16", "some tiny", "of float32", "all tiny", "too large", "few columns"],
)
def test_weights_are_held_in_float16_where_it_tells_them_in_less(weight, kind) -> None:
    matrix, x = packed_matmul.pack_matrix(weight), states(3, weight.shape[1])
    assert type(matrix) is (kind if has_onednn() or kind is Fp16Matrix else UnpackedMatrix)
    assert matrix.nbytes == (2 * 8 * 1024 if kind is Fp16Matrix else 4 * weight.numel())
    assert matrix.read_bytes == (2 if kind is Fp16Matrix else 4) * weight.numel()
    exact = x.double() @ weight.double().T
    off = (matrix(x).double() - exact).abs().max()
    assert off < 1e-6 * exact.abs().max()


def test_weights_that_are_not_finite_are_held_as_they_are() -> None:
    for odd in (torch.nan, torch.inf):
        matrix = packed_matmul.pack_matrix(torch.full((8, 640), odd))
        assert not isinstance(matrix, Fp16Matrix)
        assert not matrix(states(3, 640)).isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_bias_is_kept(dtype) -> None:
    weight, bias, x = states(32, 640).to(dtype).float(), states(32), states(5, 640) / 16
    exact = nn.functional.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(DequantizedLinear(weight, bias)(x), exact.float())


def test_a_model_too_large_to_unpack_is_left_as_it_is_and_that_is_said(caplog) -> None:
    model = tiny.make_model("llama")
    assert needs_dequantized(model) == (not has_nf4_matmul())
    with caplog.at_level(logging.WARNING):
        assert not needs_dequantized(model, max_bytes=1000)
    assert ("which is slow" in caplog.text) == (not has_nf4_matmul())


@fbgemm
def test_a_product_of_8_bits_is_near_and_the_same_in_any_company() -> None:
    weight, x = states(512, 64), states(9, 64)
    x[4] *= 1000  # one row's size is no other's affair
    x[5] = 0
    layer, whole, alone = (
        Int8Matrix(quantize_rows(weight)),
        torch.empty(9, 512),
        torch.empty(9, 512),
    )
    layer.multiply(x, out=whole)
    for n in range(9):
        layer.multiply(x[n : n + 1], out=alone[n : n + 1])
    assert torch.equal(alone, whole)
    assert not whole[5].any()
    exact = x @ weight.T
    off = (whole - exact).norm(dim=1) / exact.norm(dim=1).clamp(min=1)
    assert off.max() < 0.03
    bounds = layer.error_bound(x)
    assert ((whole - exact).abs() <= bounds + 1e-5).all()
    assert (bounds <= 0.1 * x.norm(dim=1, keepdim=True) * weight.norm(dim=1)).all()


def test_a_head_of_narrow_weights_gives_each_wide_row_what_it_gets_alone() -> None:
    model = tiny.make_model("gemma3", vocab_size=4096).to(torch.bfloat16)
    to_float32(model)
    head, hidden = ExactHead(model), states(9, 32)
    with torch.inference_mode():
        whole = head(hidden)
        assert all(same(head(hidden[n : n + 1])[0], whole[n]) for n in range(9))
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole, hidden @ head.linear.weight.float().T)


def test_equal_weights_are_held_once() -> None:
    from models.weights.sharing import share_equal

    first, second = (nn.Sequential(DequantizedLinear(states(8, 64), states(8))) for _ in range(2))
    other = nn.Sequential(DequantizedLinear(states(8, 64), states(8) + 1))
    share_equal(second, first)
    share_equal(other, first)
    assert second[0].matrix is first[0].matrix
    assert other[0].matrix is not first[0].matrix


@fbgemm
@pytest.mark.parametrize(("width", "columns", "grown"), [(640, 6, 0), (1024, 300, 2 * 8 * 512)])
def test_more_columns_stand_beside_a_layer_s_own_and_are_held_for_no_other(
    width, columns, grown
) -> None:
    from models.weights.sharing import share_equal

    weight, bias, beside = states(8, width).bfloat16(), states(8), states(3, columns) / 16
    more, x = states(8, columns).bfloat16().float(), states(3, width) / 16
    layer, alike = DequantizedLinear(weight, bias), nn.Sequential(DequantizedLinear(weight, bias))
    exact = layer(x) + beside @ more.T
    assert not layer.extend(states(8, columns))  # which float16 does not tell
    assert layer.extend(more)
    torch.testing.assert_close(layer(torch.cat([x, beside], 1)), exact)
    assert layer.added_bytes == grown  # 640 columns are filled up to 1,024
    share_equal(alike, nn.Sequential(layer))
    assert alike[0].matrix is not layer.matrix


@fbgemm
def test_columns_that_would_take_more_beside_a_layer_s_own_than_apart_stay_apart() -> None:
    layer, x = DequantizedLinear(states(8, 1024).bfloat16(), None), states(3, 1024)
    before = layer(x)
    assert not layer.extend(states(8, 6).bfloat16().float())
    assert layer.added_bytes == 0
    assert torch.equal(layer(x), before)


@fbgemm
@pytest.mark.parametrize("width", [640, 1024])
def test_what_adapters_take_beside_the_base_is_counted_as_theirs(width) -> None:
    from models.weights.sharing import memory

    a, b = states(width, 300).bfloat16().float(), states(300, 8).bfloat16().float()
    base, carried = (
        DequantizedLinear(states(8, width).bfloat16(), None),
        ActiveAdapters(2, 150, torch.empty(0)),
    )
    stack = MultiLoraLinear(base, a, b, carried)
    shape = SimpleNamespace(bytes_per_token=1)
    lm = SimpleNamespace(model=nn.Sequential(stack), head=None, kv_shape=shape, adapters=carried)
    engine = SimpleNamespace(lm=lm)
    before = memory([engine])
    stack.pack()
    after, more = memory([engine]), 2 * 8 * 512 if width == 1024 else 0
    assert stack.packed[1] is None
    assert after.base_bytes == before.base_bytes == 2 * 8 * 1024
    assert after.adapter_bytes == 2 * 300 * 1024 + more
    assert stack.read_bytes == 2 * 300 * width
    assert base.matrix.read_bytes == 2 * 8 * (width + 300)


def test_a_row_of_8_bit_layers_does_not_depend_on_its_neighbours() -> None:
    layer = Linear8bitLt(64, 32, has_fp16_weights=False, threshold=6.0)
    layer.weight = Int8Params(states(32, 64), requires_grad=False, has_fp16_weights=False)
    model = nn.Sequential(layer.to("cpu"))
    expected = weight_values(model[0]).float() @ (row := states(64)) + layer.bias
    unpack_int8(model, torch.float32)
    large = 100 * states(4, 64)  # bitsandbytes would compute these columns apart, in all rows
    for neighbours in (large[:0], large):
        ours = model(torch.cat([row[None], neighbours]))[0]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "fits"), [((64, 64), True), ((32, 128), True), ((64, 32), False), ((48, 64), False)]
)
def test_4_bit_layers_that_the_kernel_does_not_take_are_not_packed_for_it(shape, fits) -> None:
    model = nn.Sequential(tiny.four_bit(states(*shape).bfloat16()))
    model[0].support_avx512bf16_for_cpu = has_nf4_matmul()
    unpack_odd_layers(model)
    if shape[1] % 64:
        assert type(model[0]) is nn.Linear
    else:
        assert model[0].support_avx512bf16_for_cpu == (fits and has_nf4_matmul())
    values = weight_values(model[0]).float()
    rounded = (values - states(*shape)).norm() / states(*shape).norm()
    assert rounded < 0.12  # what 4 bits lose; by the kernel for whole rows it would be 0.67
    x = states(3, shape[1]).bfloat16()
    expected = x.float() @ values.T
    torch.testing.assert_close(model(x).float(), expected, rtol=0.02, atol=0.02 * shape[1] ** 0.5)
