"""The engine's own ways to answer, measured as in use: by the events of streams, text included."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from models.backends.local import LocalBackend
from models.bench.profile import bytes_per_step, profile, read_bandwidth
from models.bench.prompts import TURNS, prompts
from models.bench.subprocess_runner import Way, serve
from models.engine import reference
from models.engine.interface import SampledToken, SequenceSpec
from models.engine.options import EngineOptions
from models.engine.sampling.lm_head import Head
from models.engine.scoring import token_logprobs
from models.events import Event, Events, Token
from models.request import Request, ScoreRequest
from models.serving.compute_thread import submit
from models.text.render import to_text
from models.trios import find_trio
from models.types import Prompt, Sampling

LABELS = ("river", "lamp", "old violin", "harbour", "kitchen recipe", "winter", "letter",
          "small garden", "bell", "mill and tower")  # fmt: skip
SAMPLED: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "seed": 1}


def _prepare(setup: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Way]]:
    """Load a trio without the optimisations named in `setup`; return facts about it and ways."""
    options = EngineOptions(**dict.fromkeys(setup.get("without", []), False))
    backend = LocalBackend(find_trio(setup["trio"]), lambda progress: None, options)
    if len(backend.groups) > 1:
        raise ValueError("the benchmark takes trios whose variants share a base")
    group = backend.groups[0]
    engine, lm = group.engine, group.engine.lm
    # Every answer has the same length, and no prompt finds the KV cache of an earlier round.
    backend.groups[0] = replace(group, eos_ids=(frozenset(),) * len(group.variants))
    prefix_cache_tokens, engine.prefix_cache.max_tokens = engine.prefix_cache.max_tokens, 0
    ways: dict[str, Way] = {
        "engine": partial(_streams, backend, 1),
        "two people": partial(_streams, backend, 2),
        "four people": partial(_streams, backend, 4),
        "nine rows": partial(_streams, backend, 3),
        "sampled": partial(_streams, backend, 1, **SAMPLED),
        "one alone": partial(_one_variant, backend),
        "no guesses": partial(_streams, backend, 1, max_guesses=0),
        "nine, no guesses": partial(_streams, backend, 3, max_guesses=0),
        "exact head": partial(_streams, backend, 1, head=lm.exact_head),
        "plain loop": partial(_reference_stream, backend),
        "same beginning": partial(_same_beginning, backend, prefix_cache_tokens),
        "agreement": partial(_agreement, backend),
        "labels": partial(_labels, backend),
        "read": partial(_score, backend),
        "labels alone": lambda **counts: submit(_labels_alone, backend, **counts).result(),
        "profile": lambda: submit(
            profile, engine, _specs(backend), group.encoders[0].tokenizer
        ).result(),
    }
    _streams(backend, 1, new_tokens=4)
    memory = backend.memory()
    sent = [backend.encode(prompt) for prompt in prompts(TURNS)]
    facts = {
        "ids": [{role: encoded.ids for role, encoded in by_role.items()} for by_role in sent],
        "device": group.infos[0].device,
        "memory": {
            "base_bytes": memory.base_bytes,
            "adapter_bytes": memory.adapter_bytes,
            "head_bytes": memory.head_bytes,
            "kv_bytes_per_token": memory.kv_bytes_per_token,
        },
        "bytes_per_step": bytes_per_step(engine),
        "read_bytes_per_s": submit(read_bandwidth).result(),
    }
    return facts, ways


def _streams(
    backend: LocalBackend,
    people: int,
    new_tokens: int,
    turn: int = 0,
    prompt_tokens: int = 32,
    max_guesses: int | None = None,
    head: Head | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """Time the answers to several people at once, each with their own prompt.

    Args:
        backend: the loaded trio.
        people: number of people.
        new_tokens: length of each answer.
        turn: number of the first prompt.
        prompt_tokens: rough length of each prompt.
        max_guesses: most tokens guessed ahead in a step; None for the engine's own value.
        head: the output head; None for the engine's own.
        **sampling: other settings of `Sampling`.
    """
    engine = backend.groups[0].engine
    usual = engine.max_guesses, engine.lm.head
    engine.max_guesses = usual[0] if max_guesses is None else max_guesses
    engine.lm.head = head or usual[1]
    settings = Sampling(new_tokens, **sampling)
    try:
        return _timed(
            [
                backend.stream(Request(prompt, settings, stop_texts=False))
                for prompt in prompts(people, prompt_tokens, turn)
            ]
        )
    finally:
        engine.max_guesses, engine.lm.head = usual


def _timed(streams: Sequence[Events]) -> dict[str, Any]:
    """Time streams, each read in its own thread; the first token's time is the first stream's."""
    began = time.monotonic()

    def follow(stream: Events) -> list[float]:
        return [time.monotonic() - began for event in stream if isinstance(event, Token)]

    with ThreadPoolExecutor(len(streams)) as threads:
        times = list(threads.map(follow, streams))
    seconds = time.monotonic() - began
    submit(bool).result()  # wait until the compute thread is idle
    return {"tokens": sum(map(len, times)), "seconds": seconds, "first_token_s": times[0][0]}


def _one_variant(
    backend: LocalBackend, new_tokens: int, turn: int = 0, prompt_tokens: int = 32
) -> dict[str, Any]:
    """Time the base alone, without the other variants."""
    (prompt,) = prompts(1, prompt_tokens, turn)
    request = Request(prompt, Sampling(new_tokens), stop_texts=False, roles=["base"])
    return _timed([backend.stream(request)])


def _same_beginning(
    backend: LocalBackend,
    prefix_cache_tokens: int,
    new_tokens: int,
    turn: int = 0,
    prompt_tokens: int = 256,
) -> dict[str, Any]:
    """Time a prompt that starts like an earlier one, with the prefix cache on."""
    cache = backend.groups[0].engine.prefix_cache
    (prompt,) = prompts(1, prompt_tokens, turn)
    variations = [
        replace(prompt, input=prompt.input + end)
        if prompt.layout
        else replace(prompt, instruction=prompt.instruction + end)
        for end in (" Tell me why.", " Tell me when.")
    ]
    requests = [Request(prompt, Sampling(new_tokens), stop_texts=False) for prompt in variations]
    cache.max_tokens = prefix_cache_tokens
    try:
        _timed([backend.stream(requests[0])])
        return _timed([backend.stream(requests[1])])
    finally:
        cache.max_tokens = 0


def _specs(backend: LocalBackend, prompt: Prompt | None = None) -> list[SequenceSpec]:
    """Return the sequence spec of a prompt for each variant."""
    (group,) = backend.groups
    sent = backend.encode(prompt or prompts(1)[0])
    return [
        SequenceSpec(sent[variant.role].ids, adapter)
        for variant, adapter in zip(group.variants, group.adapters, strict=True)
    ]


def _reference(
    backend: LocalBackend, specs: Sequence[SequenceSpec], new_tokens: int
) -> list[list[SampledToken]]:
    """Generate with the same weights and transformers' own attention."""
    lm = backend.groups[0].engine.lm
    own = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("sdpa")
    try:
        return reference.generate(lm.model, lm.adapters, specs, Sampling(new_tokens))
    finally:
        lm.model.set_attn_implementation(own)


def _reference_stream(backend: LocalBackend, new_tokens: int, turn: int = 0) -> dict[str, Any]:
    """Time the reference: left-padded batch, transformers' cache, exact head; the same weights."""
    specs = _specs(backend, *prompts(1, turn=turn))
    began = time.monotonic()
    submit(_reference, backend, specs, new_tokens).result()
    return {"tokens": new_tokens * len(specs), "seconds": time.monotonic() - began}


def _score(backend: LocalBackend, tokens: int, turn: int = 0) -> dict[str, Any]:
    """Time scoring a text under every variant: loss and ten most likely tokens at each position."""
    text = " ".join(to_text(prompt) for prompt in prompts(1 + tokens // 32, 64, turn))
    continuation = {
        role: encoder.tokens(text)[: tokens - 1] for role, encoder in backend.encoders.items()
    }
    began = time.monotonic()
    deque(backend.score(ScoreRequest(Prompt(""), continuation=continuation, top=10)), maxlen=0)
    return {"seconds": time.monotonic() - began}


def _labels(backend: LocalBackend, count: int, labels: int) -> dict[str, Any]:
    """Time ranking labels after prompts under each variant, four prompts at once."""
    streams = [
        backend.stream(Request(prompt, Sampling(1), labels=LABELS[:labels]))
        for prompt in prompts(count, 64)
    ]
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(list, streams))
    return {"seconds": time.monotonic() - began}


def _labels_alone(backend: LocalBackend, count: int, labels: int) -> dict[str, Any]:
    """Time the same with prompt and label as one text each, and logits only for the label."""
    (group,) = backend.groups
    engine, began = group.engine, time.monotonic()
    for prompt in prompts(count, 64):
        sent = backend.encode(prompt)
        for encoder, adapter in zip(group.encoders, group.adapters, strict=True):
            encoded = sent[encoder.variant.role]
            for label in LABELS[:labels]:
                ids = encoder.continuation(encoded, label)
                spec = SequenceSpec((*encoded.ids, *ids[:-1]), adapter)
                states = engine.hidden_states(spec)[-len(ids) :]
                with torch.inference_mode():
                    token_logprobs(engine.lm.exact_head, states, range(len(ids)), ids)
    return {"seconds": time.monotonic() - began}


def _agreement(backend: LocalBackend, new_tokens: int, count: int) -> dict[str, Any]:
    """Compare greedy texts with the reference's, and with those of four prompts at a time."""
    all_prompts = prompts(count)
    alone = [_ids(backend, [prompt], new_tokens)[0] for prompt in all_prompts]
    together = [
        ids for n in range(0, count, 4) for ids in _ids(backend, all_prompts[n : n + 4], new_tokens)
    ]
    divergences: list[int | None] = []
    for prompt, texts in zip(all_prompts, alone, strict=True):
        for spec, ids in zip(_specs(backend, prompt), texts, strict=True):
            (text,) = submit(_reference, backend, [spec], new_tokens).result()
            pairs = zip(ids, (token.id for token in text), strict=True)
            divergences.append(next((n for n, (a, b) in enumerate(pairs) if a != b), None))
    return {
        "texts": len(divergences),
        "new_tokens": new_tokens,
        "same_as_reference": divergences.count(None) / len(divergences),
        "first_divergence": sorted(n for n in divergences if n is not None),
        "same_in_company": sum(a == b for a, b in zip(alone, together, strict=True)) / count,
    }


def _ids(backend: LocalBackend, batch: Sequence[Prompt], new_tokens: int) -> list[list[list[int]]]:
    """Return the token ids of each variant's answer to each prompt, all generated at once."""
    streams = [
        backend.stream(Request(prompt, Sampling(new_tokens), stop_texts=False)) for prompt in batch
    ]
    with ThreadPoolExecutor(len(streams)) as threads:
        answers: list[list[Event]] = list(threads.map(list, streams))
    roles = [variant.role for variant in backend.groups[0].variants]
    return [
        [
            [event.id for event in events if isinstance(event, Token) and event.role == role]
            for role in roles
        ]
        for events in answers
    ]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    serve(_prepare)
