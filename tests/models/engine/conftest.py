"""What the engine's tests run over: three families of models, KV caches that grow or are static."""

from __future__ import annotations

import pytest
import tiny


@pytest.fixture(params=tiny.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=[False, True], ids=["slots", "lanes"])
def lanes(request) -> bool:
    return request.param
