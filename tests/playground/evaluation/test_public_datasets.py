"""Public sets that are not as they were published."""

from __future__ import annotations

import gzip

import pytest

from models import PromptError
from playground.evaluation.public_datasets import public_tasks


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("task/clinc150/data_full.json", b"{"),
        ("eval/snli_dev.csv.gz", gzip.compress(b"premise,hypothesis\na,b\n")),
        ("eval/snli_dev.csv.gz", gzip.compress(b"premise,label\na,b\n" * 99)[:-9]),
        ("eval/copa-all.xml", b"<copa><item"),
        ("eval/instruction_induction_14.json.gz", gzip.compress(b"[]")),
    ],
)
def test_a_damaged_set_is_answered_with_its_home(tmp_path, file, content) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(
        PromptError, match=r"is damaged \(\w+: .*\)\. Take it from .* again\."
    ) as caught:
        public_tasks(tmp_path)
    assert "\n" not in str(caught.value)
