"""An engine on a tiny random model, and what its rows say."""

from __future__ import annotations

import tiny
import torch

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.layers.fused_linear import fuse_linears
from models.engine.layers.module import freeze_attributes
from models.engine.layers.multi_lora import ActiveAdapters
from models.engine.layers.rms_norm import replace_norms
from models.types import Sampling

PROMPTS = (
    tuple(range(5, 10)),
    tuple(range(20, 29)),
    (2, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51),
)
ROWS = [SequenceSpec(ids, adapter) for adapter, ids in enumerate(PROMPTS)]
NEW = 24
WARM = Sampling(NEW, temperature=1.0, top_p=0.9, seed=7)


def make_model(family: str) -> tuple[torch.nn.Module, ActiveAdapters]:
    model = tiny.make_model(family)
    return model, tiny.stack(model)


def make_engine(
    family: str,
    chunk: int = 64,
    own_norms: bool = False,
    lanes: bool = False,
    guesses: int = 0,
) -> Engine:
    model, carried = make_model(family)
    fuse_linears(model)
    if not own_norms:
        replace_norms(model)
    freeze_attributes(model)
    engine = Engine(model, carried)
    engine.chunk = chunk
    engine.max_guesses = guesses
    if lanes:
        engine.use_static_cache(5, 80, PROMPTS[0])
    return engine


def begin(engine: Engine, row: SequenceSpec, sampling: Sampling):
    """Begin a row and feed its prompt; return it and its first token."""
    running = engine.add(row, sampling)
    while (picked := engine.prefill(running)) is None:
        pass
    return running, picked


def step(engine: Engine, rows):
    """The next token of each row, where nothing is guessed."""
    return [token for (token,) in engine.start_step(rows)()]


def texts(engine: Engine, rows, sampling=None) -> list[list[int]]:
    """What the rows say together."""
    sampling = sampling or Sampling(NEW)
    started = [begin(engine, row, sampling) for row in rows]
    sequences = [[first.id] for _, first in started]
    while min(map(len, sequences)) < sampling.max_new_tokens:
        for text, picked in zip(
            sequences, engine.start_step([row for row, _ in started])(), strict=True
        ):
            text += [token.id for token in picked]
    for row, _ in started:
        engine.remove(row)
    return [text[: sampling.max_new_tokens] for text in sequences]


@torch.inference_mode()
def generated(family: str, adapter: int, ids, **settings) -> list[int]:
    """What `generate` says under PEFT's own forward."""
    wrapped = tiny.add_adapters(tiny.make_model(family))
    wrapped.base_model.set_adapter(["first", "second"][adapter - 1] if adapter else "first")
    call = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
        "max_new_tokens": NEW,
        "min_new_tokens": NEW,
        "do_sample": False,
        "eos_token_id": None,
        **settings,
    }
    if adapter:
        out = wrapped.generate(**call)
    else:
        with wrapped.disable_adapter():
            out = wrapped.generate(**call)
    return out[0, len(ids) :].tolist()
