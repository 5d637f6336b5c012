"""Answers from weights loaded here: variants grouped by base, one engine per group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from models.backends.model_group import Group, load_group
from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.errors import PromptError, WeightsError, is_out_of_memory
from models.events import Events
from models.logprobs import MAX_LIKELIEST, TokenDistribution, Told
from models.model_info import Memory, ModelInfo, ProgressCallback
from models.request import Request
from models.serving.compute_thread import submit
from models.serving.generation import Generation
from models.serving.scheduler import Scheduler
from models.text.detokenizer import Detokenizer, StopText
from models.text.encoder import Encoder
from models.types import (
    GREEDY,
    MAX_STRENGTH,
    NONE,
    EncodedPrompt,
    Format,
    Pin,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
    Trio,
    Variant,
)
from models.weights.allocator import give_back, share_one_arena
from models.weights.load import load_encoders
from models.weights.sharing import memory

MAX_ROWS = 12
"""Rows that share a step: four people's. Nine take 1.7 times as long as three (`bench`)."""
KEPT_LANES = 4
"""Lanes on a GPU beyond those: ended rows whose prompt another may begin with."""


def by_base(trio: Trio) -> list[list[Variant]]:
    """Group the variants by their base."""
    groups: dict[Pin, list[Variant]] = defaultdict(list)
    for variant in trio.variants:
        groups[variant.weights.base].append(variant)
    return list(groups.values())


def encoders_of(trio: Trio, on_progress: ProgressCallback) -> dict[Role, Encoder]:
    """Load tokenizers and templates alone: enough to see what each would be sent."""
    return {
        encoder.variant.role: encoder
        for variants in by_base(trio)
        for encoder in load_encoders(variants, on_progress)
    }


def sent_to_all(
    encoders: dict[Role, Encoder], trio: Trio, prompt: Prompt, format: Format, stop_texts: bool
) -> dict[Role, EncodedPrompt]:
    """Render for every variant, and refuse what does not fit into the context.

    Raises:
        PromptError: the prompt is no text, or leaves no room for an answer.
    """
    sent = {v.role: encoders[v.role].sent(prompt, format, stop_texts) for v in trio.variants}
    for role, one in sent.items():
        if len(one.ids) >= trio.max_context:
            raise PromptError(
                f"The prompt is {len(one.ids)} tokens for {role}, and the context of "
                f"{trio.name} is {trio.max_context}. Shorten it."
            )
    return sent


def _alike(
    engines: Mapping[Role, Engine], left: Mapping[Role, int]
) -> list[tuple[Engine, list[Role]]]:
    """Return the variants that one pass can serve: of one engine, with chunks of one length."""
    alike: dict[tuple[int, int], list[Role]] = defaultdict(list)
    for role, count in left.items():
        alike[id(engines[role]), min(engines[role].chunk, count)].append(role)
    return [(engines[some[0]], some) for some in alike.values()]


class LocalBackend:
    """Weights loaded here, on CUDA where there is one, else on the CPU."""

    def __init__(self, trio: Trio, on_progress: ProgressCallback) -> None:
        """Load every group of the trio.

        Raises:
            WeightsError: something cannot be had or does not fit.
        """
        share_one_arena()  # before the thread that computes asks for any
        self.trio = trio
        self.groups: list[Group] = []
        for variants in by_base(trio):
            self.groups.append(load_group(trio, variants, on_progress, self.groups))
            engine = self.groups[-1].engine
            if engine.shape.device.type == "cuda":
                submit(engine.use_lanes, MAX_ROWS + KEPT_LANES, trio.max_context).result()
        self.scheduler = Scheduler(MAX_ROWS, at_rest=give_back)
        self._scaled: dict[tuple[Role, float], ModelInfo] = {}
        self._encoders = {e.variant.role: e for group in self.groups for e in group.encoders}

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Return what each variant's model is sent, without running any."""
        self._open_groups()
        return sent_to_all(self._encoders, self.trio, prompt, format, stop_texts)

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return an answer's tokens as a training row of each variant would hold them."""
        sent = self.sent(prompt)
        return {role: self._encoders[role].completion(one, answer) for role, one in sent.items()}

    def loaded(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Return which weights answer for each variant."""
        carries = self._carries(strengths)
        return {
            variant.role: self._at_strength(group, number, carries[variant.role][1])
            for group in self._open_groups()
            for number, variant in enumerate(group.variants)
        }

    def _at_strength(self, group: Group, number: int, strength: float) -> ModelInfo:
        key = (group.variants[number].role, strength)
        if key not in self._scaled:
            self._scaled[key] = submit(group.at_strength, number, strength).result()
        return self._scaled[key]

    def memory(self) -> Memory:
        """Return what the trio holds, in bytes."""
        return memory([group.engine for group in self._open_groups()])

    def _label_ids(
        self, role: Role, sent: EncodedPrompt, labels: Sequence[str], room: int
    ) -> list[list[int]]:
        ids = self._encoders[role].continuations(sent, labels)
        if sum(map(len, ids)) > room:
            raise PromptError(
                f"The labels are {sum(map(len, ids))} tokens, and the prompt leaves {room} of the "
                f"context of {self.trio.name}. Shorten them."
            )
        return ids

    def tokens(self, text: str, opening: bool = False) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return a plain text's tokens, the tokenizer's own opening ones on request."""
        return {role: one.tokens(text, opening) for role, one in self._encoders.items()}

    def pieces(self, ids: Sequence[int]) -> dict[Role, tuple[TokenPiece, ...]]:
        """Return tokens by their ids, as each variant's vocabulary has them."""
        return {role: one.pieces(ids) for role, one in self._encoders.items()}

    def read(
        self,
        ids: Mapping[Role, Sequence[int]],
        likeliest: int = 0,
        sampling: Sampling = GREEDY,
        strengths: Strengths = NONE,
    ) -> Iterator[dict[Role, list[TokenDistribution]]]:
        """Yield, chunk by chunk, what each variant expects after every token; see `Backend`."""
        for role, some in ids.items():
            if not 1 <= len(some) <= self.trio.max_context:
                raise PromptError(
                    f"The text is {len(some)} tokens for {role}; it must have from 1 to "
                    f"{self.trio.max_context}."
                )
        if not 0 <= likeliest <= MAX_LIKELIEST:
            raise PromptError(
                f"likeliest is {likeliest!r}; it must be a whole number from 0 to {MAX_LIKELIEST}."
            )
        carries = self._carries(strengths)
        engines = {v.role: group.engine for group in self._open_groups() for v in group.variants}
        found: dict[Role, list[TokenDistribution]] = {role: [] for role in ids}
        slots = {
            role: engines[role].new_slot(SequenceSpec(tuple(some), *carries[role]))
            for role, some in ids.items()
        }
        while some_left := [role for role in ids if len(found[role]) < len(ids[role])]:
            self._open_groups()
            left = {role: len(ids[role]) - len(found[role]) for role in some_left}
            for engine, roles in _alike(engines, left):
                chunks = [ids[r][len(found[r]) :][: engine.chunk] for r in roles]
                then = [ids[r][len(found[r]) + 1 :][: engine.chunk] for r in roles]
                here = [slots[role] for role in roles]
                try:
                    read = submit(engine.read, here, chunks, then, likeliest, sampling).result()
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    raise PromptError("Out of memory: shorten the text.") from error
                for role, expected in zip(roles, read, strict=True):
                    found[role] += [self._encoders[role].after(one) for one in expected]
            yield found

    def told(
        self, prompt: Prompt, format: Format = "own", answer: str = "", likeliest: int = 0
    ) -> Iterator[dict[Role, Told | str]]:
        """Tell nothing: what is here is read."""
        yield from ()

    def _open_groups(self) -> list[Group]:
        """Return the groups.

        Raises:
            WeightsError: the trio is closed.
        """
        if not (groups := list(self.groups)):
            raise WeightsError(f"The trio {self.trio.name} is closed. Open it again.")
        return groups

    def _carries(self, strengths: Strengths) -> dict[Role, tuple[int, float]]:
        """Return which adapter of its group each variant carries, and how strongly.

        Raises:
            PromptError: a strength is out of its range, or of a variant that has no adapter.
        """
        adapters = {
            variant.role: number
            for group in self._open_groups()
            for variant, number in zip(group.variants, group.rows, strict=True)
        }
        for role, strength in strengths.items():
            if not adapters.get(role) and strength != 1:
                raise PromptError(f"{role} has no adapter whose strength could be {strength!r}.")
            if not isinstance(strength, int | float) or not 0 <= strength <= MAX_STRENGTH:
                raise PromptError(
                    f"The strength of {role} is {strength!r}; it goes from 0 (the base) to "
                    f"{MAX_STRENGTH}."
                )
        return {role: (number, strengths.get(role, 1.0)) for role, number in adapters.items()}

    def close(self) -> None:
        """Cancel what runs and drop the weights; what is asked later is refused."""
        self.scheduler.close()
        self.groups.clear()

    def stream(self, request: Request) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each; see `Backend`."""
        answers = self.answers(request)
        asked = [answers[v.role] for v in self.trio.variants if v.role in request.roles]
        yield from self.scheduler.run(asked, request.deadline_s)

    def answers(self, request: Request) -> dict[Role, Generation]:
        """Return an answer to be run for each variant.

        Raises:
            PromptError: the prompt, and what is to follow it, cannot be sent to one of them.
        """
        forced_prefix, labels = request.forced_prefix, request.labels
        sent = self.sent(request.prompt, request.format, request.stop_texts)
        carries = self._carries(request.strengths)
        room = {
            r: self.trio.max_context - len(one.ids) - len(forced_prefix) for r, one in sent.items()
        }
        if min(room.values()) < 1:
            raise PromptError(
                f"The prompt and the {len(forced_prefix)} tokens that the answer begins with fill "
                f"the context of {self.trio.name}, {self.trio.max_context}. Begin with fewer."
            )
        ids = {role: self._label_ids(role, one, labels, room[role]) for role, one in sent.items()}
        return {
            variant.role: Generation(
                role=variant.role,
                engine=group.engine,
                row=SequenceSpec((*sent[variant.role].ids, *forced_prefix), *carries[variant.role]),
                sampling=request.sampling,
                detokenizer=Detokenizer(group.encoders[0].tokenizer, forced_prefix),
                stops=StopText(sent[variant.role].stop_texts),
                left=min(request.sampling.max_new_tokens, room[variant.role]),
                eos_ids=group.eos_ids,
                labels=ids[variant.role],
            )
            for group in self._open_groups()
            for variant in group.variants
        }
