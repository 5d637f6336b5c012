"""docs/security.md names tests that are there, for every row but those that say otherwise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_is_named_is_there() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 25
    assert [name for name in named if f"def {name}(" not in sources] == []


def test_every_row_of_what_a_visitor_does_names_its_test_or_says_that_it_has_none() -> None:
    tables = PAGE.partition("## Under load")[0]
    rows = [
        line for line in tables.splitlines() if line.startswith("| ") and "tried by" not in line
    ]
    assert len(rows) > 25
    assert [row for row in rows if not re.search(r"\| (`test_\w+`|not tried) \|$", row)] == []
