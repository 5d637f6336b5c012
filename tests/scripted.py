"""A scripted trio: what its variants say, and what opens it."""

from __future__ import annotations

import time
from pathlib import Path

from models.backends.fake import FakeBackend

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "models" / "adapters" / "instruct" / "chat_template.jinja"
SCRIPT = {
    "base": [", and", " I'll", " tell", " you", " a", " story", "."] + [" And", " then", "."] * 20,
    "task": ["small", " talk", " /", " tell", " joke"],
    "instruct": ["Why", " did", " the", " chicken", " cross", " the", " road", "?"],
}


def eventually(condition, within_s: float = 2.0) -> bool:
    """Whether the condition comes true; what is closed is freed by another thread's next step."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def scripted(script=None, delay_s=0.01, made=None):
    """An opener of the scripted backend."""

    def opener(trio, report):
        backend = FakeBackend(trio, script or SCRIPT, delay_s)
        if made is not None:
            made.append(backend)
        return backend

    return opener
