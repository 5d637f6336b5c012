"""Several adapters in one layer, against PEFT and against each alone."""

from __future__ import annotations

from functools import partial

import pytest
import tiny
import torch
from peft.tuners.lora import LoraLayer
from tiny_engine import NEW, PROMPTS, ROWS, begin, make_engine, step

from models.engine.interface import BASE, AdapterScale, SequenceSpec
from models.engine.layers.dequantized import DequantizedLinear
from models.engine.layers.fused_linear import FusedOutput, fuse_linears
from models.engine.layers.multi_lora import ActiveAdapters, MultiLoraLinear
from models.engine.layers.packed_matmul import has_fbgemm, has_onednn
from models.types import Sampling


def test_no_strength_is_the_base_to_the_last_bit(family) -> None:
    engine = make_engine(family)
    base, none = (
        engine.hidden_states(SequenceSpec(PROMPTS[1], *carries)) for carries in ((0,), (1, 0.0))
    )
    assert torch.equal(base, none)
    plain = tiny.make_model(family)
    with torch.no_grad():
        expected = plain.base_model(input_ids=torch.tensor([PROMPTS[1]])).last_hidden_state[0]
    torch.testing.assert_close(base, expected, rtol=1e-5, atol=1e-5)


def test_beside_tuned_rows_the_base_row_stays_the_base(family) -> None:
    engine = make_engine(family)
    alone, _ = begin(engine, ROWS[0], Sampling(NEW))
    beside = [begin(engine, row, Sampling(NEW))[0] for row in ROWS]
    for _ in range(NEW):
        (token,), (other, *_) = step(engine, [alone]), step(engine, beside)
        assert token.id == other.id
        assert token.logprob == pytest.approx(other.logprob, abs=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_strength_scales_the_adapter_as_peft_would(family, strength) -> None:
    wrapped = tiny.add_adapters(tiny.make_model(family))
    wrapped.set_adapter("second")
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling["second"] *= strength
    with torch.no_grad():
        out = wrapped.get_base_model().base_model(input_ids=torch.tensor([PROMPTS[1]]))
    hidden = make_engine(family, own_norms=True).hidden_states(
        SequenceSpec(PROMPTS[1], 2, strength)
    )
    torch.testing.assert_close(hidden, out.last_hidden_state[0], rtol=1e-4, atol=1e-4)


def test_stacked_layers_compute_what_peft_computes(family) -> None:
    ids = torch.tensor([PROMPTS[1]])
    wrapped = tiny.add_adapters(tiny.make_model(family))
    expected = []
    with torch.no_grad():
        with wrapped.disable_adapter():
            expected.append(wrapped(input_ids=ids).logits)
        for name in ("first", "second"):
            wrapped.set_adapter(name)
            expected.append(wrapped(input_ids=ids).logits)
        model = tiny.make_model(family)
        active = tiny.stack(model)
        layers = [layer for layer in model.modules() if isinstance(layer, MultiLoraLinear)]
        assert len(layers) == 2 * len(tiny.LINEAR)
        rows = [BASE, AdapterScale(1, 1.0), AdapterScale(2, 1.0)]
        apart = active.run(model, rows, input_ids=ids.expand(3, -1)).logits
        torch.testing.assert_close(apart, torch.cat(expected), rtol=1e-4, atol=1e-4)
        fuse_linears(model)
        assert sum(isinstance(layer, FusedOutput) for layer in model.modules()) == 2 * 5
        fused = active.run(model, rows, input_ids=ids.expand(3, -1)).logits
    torch.testing.assert_close(fused, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "scaling"),
    [(torch.bfloat16, 2.0), (torch.float32, 2.0), (torch.float32, 1.1)],
    ids=["bfloat16", "float32, told by float16", "float32"],
)
@pytest.mark.parametrize("rank", [1, 6, 16])
def test_held_stacks_give_each_row_what_it_gets_alone(rank, dtype, scaling) -> None:
    torch.manual_seed(rank)
    width = 64 if dtype == torch.bfloat16 else 640  # which fill FBGEMM's blocks
    base = torch.nn.Linear(width, 48, bias=False).to(torch.bfloat16)
    a, b = (torch.randn(shape).to(torch.bfloat16) for shape in ((width, 2 * rank), (2 * rank, 48)))
    base = base if dtype == torch.bfloat16 else DequantizedLinear(base.weight, None)
    active = ActiveAdapters(2, rank, torch.empty(0, dtype=dtype))
    stack = MultiLoraLinear(base, a.to(dtype), scaling * b.to(dtype), active)
    rows = [AdapterScale(n % 3, 1.0 - n % 2 / 2) for n in range(24)]
    narrow = dtype == torch.bfloat16
    x = torch.randn(24, 1, width).to(dtype) / (1 if narrow else 64)
    near = {"rtol": 0.02, "atol": 0.1} if narrow else {}
    with torch.inference_mode():
        before, unpacked_bytes = active.run(partial(stack, x), rows), stack.nbytes
        stack.pack()
        torch.testing.assert_close(active.run(partial(stack, x), rows), before, **near)
        half = dtype == torch.float32 and has_fbgemm()
        beside = half and scaling == 2  # B lies where the base's columns are filled up
        assert (stack.packed[1] is None) == beside
        a_bytes, b_bytes = 2 * 1024 * 2 * rank, 4 * 48 * 2 * rank
        assert stack.nbytes == (a_bytes + (not beside) * b_bytes if half else unpacked_bytes)
        whole = active.run(partial(stack, x), rows)
        for n, row in enumerate(rows):
            alone = active.run(partial(stack, x[n, None]), [row])[0]
            if has_onednn():
                assert torch.equal(alone, whole[n]), n
            else:
                torch.testing.assert_close(alone, whole[n], **near)
