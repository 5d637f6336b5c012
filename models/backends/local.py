"""The backend for local weights: variants are grouped by base, with one engine per group."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from models.backends.base import TokenEncoder
from models.backends.encoding import by_base, encode_for_all, fit_context
from models.backends.model_group import ModelGroup, load_group
from models.backends.scored_text import ScoredText, score_chunks
from models.engine.interface import AdapterScale, SequenceSpec
from models.engine.options import ALL_OPTIMISATIONS, EngineOptions
from models.errors import PromptError, WeightsError
from models.events import Events
from models.logprobs import Scores
from models.model_info import Memory, ModelInfo, ProgressCallback, describe_steps
from models.request import Request, ScoreRequest, check_strengths
from models.serving.compute_thread import choose_thread_count, submit, thread_count
from models.serving.generation import Generation
from models.serving.scheduler import Scheduler
from models.text.detokenizer import Detokenizer, StopText
from models.types import (
    AS_TRAINED,
    EncodedPrompt,
    Format,
    Prompt,
    Role,
    Strengths,
    Trio,
)
from models.weights.allocator import share_one_arena, trim_memory
from models.weights.sharing import memory

MAX_ROWS = 12
"""Sequences that may share a step: four trios. Nine take 1.7 times as long as three (`bench`)."""
PREFIX_SLOTS = 4
"""Further slots of a GPU's static KV cache, for earlier prompts whose prefix may be reused."""


def _collect() -> None:
    """Free what loading or closing left behind: transformers' objects form reference cycles."""
    gc.unfreeze()
    gc.collect()
    trim_memory()


def _collect_and_freeze() -> None:
    """Free what loading left behind, and never look at what is left, in the whole process.

    It is used for long, and looking at it while an answer is made would hold that up for 0.2 s.
    """
    _collect()
    gc.freeze()


def _note_step(engine: int, rows: int, kind: Hashable, seconds: float) -> None:
    """Let the number of threads follow the duration of an engine's step. On the compute thread."""
    thread_count().record((engine, kind), rows, seconds)


class LocalBackend:
    """Runs a trio on weights in this process, on a CUDA GPU if there is one, else on the CPU."""

    def __init__(
        self,
        trio: Trio,
        on_progress: ProgressCallback,
        options: EngineOptions = ALL_OPTIMISATIONS,
    ) -> None:
        """Load the weights of all variants, group by group.

        Raises:
            WeightsError: a file is missing or damaged, or does not match the others.
        """
        share_one_arena()  # before the compute thread allocates anything
        submit(choose_thread_count).result()
        self.trio = trio = fit_context(trio, on_progress)
        self.groups: list[ModelGroup] = []
        for variants in by_base(trio):
            self.groups.append(load_group(trio, variants, on_progress, self.groups, options))
            engine = self.groups[-1].engine
            engine.on_step = partial(_note_step, id(engine))
            if engine.lm.kv_shape.device.type == "cuda":
                slots, probe = MAX_ROWS + PREFIX_SLOTS, self.groups[-1].probe.ids
                submit(engine.use_static_cache, slots, trio.max_context, probe).result()
                submit(engine.create_static_steps).result()
        submit(_collect_and_freeze)  # nobody waits for it, unless somebody asks at once
        self.scheduler = Scheduler(MAX_ROWS, on_idle=trim_memory)
        self._infos: dict[tuple[Role, float], ModelInfo] = {}
        self._encoders = {e.variant.role: e for group in self.groups for e in group.encoders}

    @property
    def encoders(self) -> Mapping[Role, TokenEncoder]:
        """Encoders of all variants."""
        return self._encoders

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Render and tokenize a prompt for each variant, without running a model."""
        self._open_groups()
        return encode_for_all(self._encoders, self.trio, prompt, format, stop_texts)

    def model_info(self, strengths: Strengths = AS_TRAINED) -> dict[Role, ModelInfo]:
        """Return which weights answer for each variant."""
        scales = self._adapter_scales(strengths)
        return {
            variant.role: self._info(group, number, scales[variant.role].scale)
            for group in self._open_groups()
            for number, variant in enumerate(group.variants)
        }

    def _info(self, group: ModelGroup, number: int, strength: float) -> ModelInfo:
        key = (group.variants[number].role, strength)
        if key not in self._infos:
            self._infos[key] = submit(group.info_at, number, strength).result()
        return replace(self._infos[key], steps=describe_steps(group.engine.step_checks))

    def memory(self) -> Memory:
        """Return the memory that the trio takes, in bytes."""
        return memory([group.engine for group in self._open_groups()])

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Yield, chunk by chunk, the scores of every token of a text; see `Backend.score`."""
        sent = self.encode(request.prompt, request.format)
        pieces = {
            variant.role: (*sent[variant.role].pieces, *request.continuation.get(variant.role, ()))
            for variant in self.trio.variants
            if variant.role in request.roles
        }
        for role, tokens in pieces.items():
            if not 1 <= len(tokens) <= self.trio.max_context:
                raise PromptError(
                    f"The text is {len(tokens)} tokens for {role}; it must have from 1 to "
                    f"{self.trio.max_context}."
                )
        scales = self._adapter_scales(request.strengths)
        engines = {v.role: group.engine for group in self._open_groups() for v in group.variants}
        texts = [
            ScoredText(
                role,
                tokens,
                len(sent[role].pieces),
                engines[role],
                self._encoders[role],
                scales[role],
            )
            for role, tokens in pieces.items()
        ]
        while any(text.remaining for text in texts):
            self._open_groups()  # raises if the trio was closed meanwhile
            score_chunks(texts, request.top, request.sampling)
            yield {text.role: text.scores() for text in texts}

    def _open_groups(self) -> list[ModelGroup]:
        """Return the groups, if the trio is open.

        Raises:
            WeightsError: the trio is closed.
        """
        if not (groups := list(self.groups)):
            raise WeightsError(f"The trio {self.trio.name} is closed. Open it again.")
        return groups

    def _adapter_scales(self, strengths: Strengths) -> dict[Role, AdapterScale]:
        """Return each variant's adapter number within its group, and its scale.

        Raises:
            PromptError: a strength is out of range, or given for a variant without an adapter.
        """
        check_strengths(strengths)
        adapters = {
            variant.role: number
            for group in self._open_groups()
            for variant, number in zip(group.variants, group.adapters, strict=True)
        }
        for role, strength in strengths.items():
            if not adapters.get(role) and strength != 1:
                raise PromptError(f"{role} has no adapter whose strength could be {strength!r}.")
        return {
            role: AdapterScale(number, strengths.get(role, 1.0))
            for role, number in adapters.items()
        }

    def close(self) -> None:
        """Cancel all requests and free the weights."""
        self.scheduler.close()
        self.groups.clear()
        with suppress(RuntimeError):  # the process ends
            submit(_collect)

    def stream(self, request: Request) -> Events:
        """Yield the tokens of all variants as they are generated, and one `Stop` for each."""
        generations = self.generations(request)
        ordered = [generations[v.role] for v in self.trio.variants if v.role in generations]
        yield from self.scheduler.run(ordered, request.deadline_s)

    def generations(self, request: Request) -> dict[Role, Generation]:
        """Create a generation, not started yet, for each variant that answers.

        Raises:
            PromptError: prompt, forced prefix, labels or strength are invalid for a variant.
        """
        prefix = request.forced_prefix
        sent = {
            role: encoded
            for role, encoded in self.encode(
                request.prompt, request.format, request.stop_texts
            ).items()
            if role in request.roles
        }
        scales = self._adapter_scales(request.strengths)
        room = {
            role: self.trio.max_context - len(encoded.ids) - len(prefix.get(role, ()))
            for role, encoded in sent.items()
        }
        if min(room.values(), default=1) < 1:
            longest = max(map(len, prefix.values()), default=0)
            raise PromptError(
                f"The prompt and the {longest} tokens that the answer begins with fill the "
                f"context of {self.trio.name}, {self.trio.max_context}. Begin with fewer."
            )
        labels = {
            role: self._label_ids(role, encoded, request.labels, room[role])
            for role, encoded in sent.items()
        }
        return {
            variant.role: Generation(
                role=variant.role,
                engine=group.engine,
                spec=SequenceSpec(
                    (*sent[variant.role].ids, *prefix.get(variant.role, ())), *scales[variant.role]
                ),
                sampling=request.sampling,
                detokenizer=Detokenizer(encoder.tokenizer, prefix.get(variant.role, ())),
                stops=StopText(sent[variant.role].stop_texts),
                remaining=min(request.sampling.max_new_tokens, room[variant.role]),
                eos_ids=eos_ids,
                labels=labels[variant.role],
                stops_loops=request.stop_loops,
            )
            for group in self._open_groups()
            for variant, encoder, eos_ids in zip(
                group.variants, group.encoders, group.eos_ids, strict=True
            )
            if variant.role in sent
        }

    def _label_ids(
        self, role: Role, sent: EncodedPrompt, labels: Sequence[str], room: int
    ) -> list[list[int]]:
        ids = self._encoders[role].continuations(sent, labels)
        total = sum(map(len, ids))
        if total > room:
            raise PromptError(
                f"The labels are {total} tokens, and the prompt leaves {room} of the "
                f"context of {self.trio.name}. Shorten them."
            )
        return ids
