"""RMS norms in a few operations, against those of transformers."""

from __future__ import annotations

import pytest
import tiny
import torch

from models.engine.layers.rms_norm import RmsNorm, replace_norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_in_a_few_operations_compute_the_same(family, dtype) -> None:
    model = tiny.make_model(family)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_()
        norms = {
            n: module for n, module in model.named_modules() if "RMSNorm" in type(module).__name__
        }
        replace_norms(model)
        for name, norm in norms.items():
            new_norm = model.get_submodule(name)
            assert type(new_norm) is RmsNorm
            for size in (0.0, 1e-4, 1.0, 1e3):  # what is added to the mean square counts, too
                x = size * torch.randn(9, 2, 1, len(norm.weight))
                narrow = 0.01 if dtype == torch.bfloat16 else 1e-5
                whole = new_norm(x.to(dtype))
                torch.testing.assert_close(
                    whole.float(), norm(x.to(dtype).float()), rtol=narrow, atol=narrow
                )
                assert whole.dtype == dtype
                assert all(
                    torch.equal(new_norm(x[n, None].to(dtype))[0], whole[n]) for n in range(9)
                )


def test_a_norm_that_computes_something_else_stays() -> None:
    class OtherRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            return 2 * x

    holder = torch.nn.Sequential(OtherRMSNorm())
    replace_norms(holder)
    assert isinstance(holder[0], OtherRMSNorm)
