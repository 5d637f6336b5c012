"""User-facing functions: prompting, comparison, evaluation, the command line and the page.

from playground import compare, open_trio

with open_trio("gemma-270m") as trio:
    answers = compare(trio, "Tell me a joke", max_new_tokens=48)
    print(answers["task"].text)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from models import DEFAULT, Backend, find_trio, open_backend
from playground.comparison.compare import Answer, compare

__all__ = ["Answer", "compare", "open_trio"]


@contextmanager
def open_trio(name: str = DEFAULT) -> Iterator[Backend]:
    """Load a trio of the trio files, and close it at the end of the `with` block.

    Raises:
        ModelError: there is no such trio, or its weights cannot be loaded.
    """
    with closing(open_backend(find_trio(name))) as backend:
        yield backend
