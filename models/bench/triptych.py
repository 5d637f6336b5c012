"""The project's own engine, by the way that people take: events of streams, text included."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from models.backends.local import LocalBackend
from models.bench.profile import bytes_per_step, profile, read_bandwidth
from models.bench.prompts import TURNS, prompts
from models.bench.subprocess_runner import Way, serve
from models.engine import reference
from models.engine.interface import SampledToken, SequenceSpec
from models.engine.scoring import logprobs
from models.events import Event, Events, Token
from models.request import Request
from models.serving.compute_thread import submit
from models.text.render import to_text
from models.trios import find_trio
from models.types import Prompt, Sampling

LABELS = ("river", "lamp", "old violin", "harbour", "kitchen recipe", "winter", "letter",
          "small garden", "bell", "mill and tower")  # fmt: skip
WARM: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "seed": 1}


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    backend = LocalBackend(find_trio(setup["trio"]), lambda progress: None)
    if len(backend.groups) > 1:
        raise ValueError("the benchmark takes trios whose variants share a base")
    group = backend.groups[0]
    # Forced length, and nothing that an earlier round has left.
    backend.groups[0] = replace(group, eos_ids=frozenset())
    group.engine.prefixes.tokens = 0
    asked = [backend.sent(prompt) for prompt in prompts(TURNS)]
    ids = [{role: sent.ids for role, sent in one.items()} for one in asked]
    ways: dict[str, Way] = {
        "engine": lambda **how: _streams(backend, 1, **how),
        "two people": lambda **how: _streams(backend, 2, **how),
        "four people": lambda **how: _streams(backend, 4, **how),
        "nine rows": lambda **how: _streams(backend, 3, **how),
        "sampled": lambda **how: _streams(backend, 1, **WARM, **how),
        "one alone": lambda **how: _one(backend, **how),
        "no guesses": lambda **how: _without(backend, "step_rows", 0, 1, **how),
        "nine, no guesses": lambda **how: _without(backend, "step_rows", 0, 3, **how),
        "exact head": lambda **how: _without(backend, "head", group.engine.exact_head, 1, **how),
        "plain loop": lambda **how: _plain(backend, **how),
        "agreement": lambda **how: _agreement(backend, **how),
        "labels": lambda **how: _labels(backend, **how),
        "read": lambda **how: _read(backend, **how),
        "labels alone": lambda **how: submit(_labels_alone, backend, **how).result(),
        "profile": lambda: submit(
            profile, group.engine, _rows(backend), group.encoders[0].tokenizer
        ).result(),
    }
    _streams(backend, 1, new_tokens=4)
    memory = backend.memory()
    told = {
        "ids": ids,
        "device": group.loaded[0].device,
        "memory": {
            "base_bytes": memory.base_bytes,
            "adapter_bytes": memory.adapter_bytes,
            "head_bytes": memory.head_bytes,
            "kv_bytes_per_token": memory.kv_bytes_per_token,
        },
        "bytes_per_step": bytes_per_step(group.engine),
        "read_bytes_per_s": submit(read_bandwidth).result(),
    }
    return told, ways


def _streams(
    backend: LocalBackend,
    people: int,
    new_tokens: int,
    turn: int = 0,
    prompt_tokens: int = 32,
    **sampling: Any,
) -> dict[str, Any]:
    """Several people at once, each with a prompt of their own."""
    asked = prompts(people, prompt_tokens, turn)
    how = Sampling(new_tokens, **sampling)
    return _told([backend.stream(Request(one, how, stop_texts=False)) for one in asked])


def _told(streams: Sequence[Events]) -> dict[str, Any]:
    """Follow streams, each in a thread of its own; the first token is the first stream's."""
    began = time.monotonic()

    def follow(stream: Events) -> list[float]:
        return [time.monotonic() - began for event in stream if isinstance(event, Token)]

    with ThreadPoolExecutor(len(streams)) as people:
        times = list(people.map(follow, streams))
    seconds = time.monotonic() - began
    submit(bool).result()  # it has come to rest
    return {"tokens": sum(map(len, times)), "seconds": seconds, "first_token_s": times[0][0]}


def _one(
    backend: LocalBackend, new_tokens: int, turn: int = 0, prompt_tokens: int = 32
) -> dict[str, Any]:
    """One model alone: the base's row and no other."""
    (prompt,) = prompts(1, prompt_tokens, turn)
    request = Request(prompt, Sampling(new_tokens), stop_texts=False, roles=["base"])
    return _told([backend.stream(request)])


def _without(
    backend: LocalBackend, part: str, instead: Any, people: int, **how: Any
) -> dict[str, Any]:
    """The trio, asked that many times at once, with one part of the engine exchanged."""
    engine = backend.groups[0].engine
    own = getattr(engine, part)
    setattr(engine, part, instead)
    try:
        return _streams(backend, people, **how)
    finally:
        setattr(engine, part, own)


def _rows(backend: LocalBackend, prompt: Prompt | None = None) -> list[SequenceSpec]:
    (group,) = backend.groups
    sent = backend.sent(prompt or prompts(1)[0])
    return [
        SequenceSpec(sent[variant.role].ids, adapter)
        for variant, adapter in zip(group.variants, group.rows, strict=True)
    ]


def _reference(
    backend: LocalBackend, rows: Sequence[SequenceSpec], new_tokens: int
) -> list[list[SampledToken]]:
    """Ask the same weights by transformers' own attention."""
    engine = backend.groups[0].engine
    own = engine.model.config._attn_implementation
    engine.model.set_attn_implementation("sdpa")
    try:
        return reference.generate(engine.model, engine.carried, rows, Sampling(new_tokens))
    finally:
        engine.model.set_attn_implementation(own)


def _plain(backend: LocalBackend, new_tokens: int, turn: int = 0) -> dict[str, Any]:
    """The reference: left-padded batch, transformers' cache, exact head; the same weights."""
    rows = _rows(backend, *prompts(1, turn=turn))
    began = time.monotonic()
    submit(_reference, backend, rows, new_tokens).result()
    return {"tokens": new_tokens * len(rows), "seconds": time.monotonic() - began}


def _read(backend: LocalBackend, tokens: int, turn: int = 0) -> dict[str, Any]:
    """Read a text under every variant: each token's loss, and the ten likeliest after it."""
    text = " ".join(to_text(one) for one in prompts(1 + tokens // 32, 64, turn))
    found = backend.tokens(text, opening=True)
    ids = {role: [piece.id for piece in some[:tokens]] for role, some in found.items()}
    began = time.monotonic()
    deque(backend.read(ids, likeliest=10), maxlen=0)
    return {"seconds": time.monotonic() - began}


def _labels(backend: LocalBackend, count: int, labels: int) -> dict[str, Any]:
    """Rank labels after some prompts under each variant, four prompts at once."""
    how, known = Sampling(1), LABELS[:labels]
    streams = [backend.stream(Request(one, how, labels=known)) for one in prompts(count, 64)]
    began = time.monotonic()
    with ThreadPoolExecutor(4) as people:
        list(people.map(list, streams))
    return {"seconds": time.monotonic() - began}


def _labels_alone(backend: LocalBackend, count: int, labels: int) -> dict[str, Any]:
    """The same, each prompt with each label as a text of its own; logits of the labels alone."""
    (group,) = backend.groups
    engine, began = group.engine, time.monotonic()
    for prompt in prompts(count, 64):
        sent = backend.sent(prompt)
        for encoder, adapter in zip(group.encoders, group.rows, strict=True):
            one = sent[encoder.variant.role]
            for label in LABELS[:labels]:
                ids = encoder.continuation(one, label)
                states = engine.hidden(SequenceSpec((*one.ids, *ids[:-1]), adapter))[-len(ids) :]
                with torch.inference_mode():
                    logprobs(engine.exact_head, states, range(len(ids)), ids)
    return {"seconds": time.monotonic() - began}


def _agreement(backend: LocalBackend, new_tokens: int, count: int) -> dict[str, Any]:
    """Compare greedy texts with the reference, each alone, and with themselves in company."""
    asked = prompts(count)
    said = [_ids(backend, [prompt], new_tokens)[0] for prompt in asked]
    crowd = [ids for n in range(0, count, 4) for ids in _ids(backend, asked[n : n + 4], new_tokens)]
    first: list[int | None] = []
    for prompt, mine in zip(asked, said, strict=True):
        for row, ids in zip(_rows(backend, prompt), mine, strict=True):
            (text,) = submit(_reference, backend, [row], new_tokens).result()
            pairs = zip(ids, (one.id for one in text), strict=True)
            first.append(next((n for n, (a, b) in enumerate(pairs) if a != b), None))
    apart = sorted(n for n in first if n is not None)
    return {
        "texts": len(first),
        "new_tokens": new_tokens,
        "same_as_reference": first.count(None) / len(first),
        "first_divergence": apart,
        "same_in_company": sum(a == b for a, b in zip(said, crowd, strict=True)) / count,
    }


def _ids(backend: LocalBackend, asked: Sequence[Prompt], new_tokens: int) -> list[list[list[int]]]:
    """Return the ids of each variant's answer to each prompt, all asked at once."""
    how = Sampling(new_tokens)
    streams = [backend.stream(Request(one, how, stop_texts=False)) for one in asked]
    with ThreadPoolExecutor(len(streams)) as people:
        said: list[list[Event]] = list(people.map(list, streams))
    each = [[event for event in events if isinstance(event, Token)] for events in said]
    roles = [variant.role for variant in backend.groups[0].variants]
    return [[[one.id for one in tokens if one.role == role] for role in roles] for tokens in each]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(_prepare)
