"""Baseline: llama.cpp on the same GGUF file, where the base answers three times in turn.

llama.cpp does not batch requests with different adapters, so three variants cost three answers.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import Any

from models.bench.subprocess_runner import Way, serve


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    import llama_cpp  # type: ignore[import-not-found, unused-ignore]

    threads = os.cpu_count()
    model = llama_cpp.Llama(
        setup["gguf"], n_ctx=4096, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def in_turn(new_tokens: int, turn: int = 0) -> dict[str, Any]:
        began, firsts = time.monotonic(), []
        prompts = setup["ids"][turn].values()
        for ids in prompts:
            model.reset()
            tokens = model.generate(ids, top_k=1, temp=0.0)
            next(tokens)
            firsts.append(time.monotonic() - began)
            list(islice(tokens, new_tokens - 1))
        seconds = time.monotonic() - began
        total = new_tokens * len(prompts)
        return {"tokens": total, "seconds": seconds, "first_token_s": firsts[0]}

    in_turn(2)
    return {"version": llama_cpp.__version__}, {"B5": in_turn}


if __name__ == "__main__":
    serve(_prepare)
