"""What of a library's error is shown."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from models.errors import first_line


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("One line.", "One line."),
        ("\n  The first line.\nIts details.", "The first line."),
        ("Error(s) in loading X:\n\tsize mismatch: 3, 4.\n\tand more",
         "Error(s) in loading X: size mismatch: 3, 4."),
        ("401 Client Error. (Request ID: x)\n\nRepository Not Found for url: u.\nPlease",
         "401 Client Error. (Request ID: x) Repository Not Found for url: u."),
        ("It ends:", "It ends:"),
        ("", "ValueError('')"),
    ],
)  # fmt: skip
def test_the_line_with_the_reason_is_shown(message, shown) -> None:
    assert first_line(ValueError(message)) == shown


def test_the_reason_of_peft_is_kept(tmp_path) -> None:
    def linear(size: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(size, size))

    get_peft_model(linear(4), LoraConfig(r=2, target_modules=["0"])).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError) as caught:
        PeftModel.from_pretrained(linear(6), tmp_path)
    assert "size mismatch for base_model" in first_line(caught.value)
    assert "\n" not in first_line(caught.value)
