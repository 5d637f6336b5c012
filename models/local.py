"""Answers from weights loaded here: variants grouped by base, one engine per group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from models.answering import Answering
from models.detokenize import Detokenizer, StopText
from models.encode import Encoder
from models.engine.rows import Row
from models.errors import PromptError, WeightsError
from models.group import Group, load_group, memory
from models.load import load_encoders
from models.prepare import Report
from models.scheduler import Scheduler
from models.types import (
    ROLES,
    Events,
    Format,
    Loaded,
    Memory,
    Piece,
    Pin,
    Prompt,
    Role,
    Sampling,
    Sent,
    Trio,
    Variant,
)
from models.worker import submit

MAX_ROWS = 12
"""Rows that share a step: four people's. Nine take 1.7 times as long as three (`bench`)."""
KEPT_LANES = 4
"""Lanes on a GPU beyond those: ended rows whose prompt another may begin with."""


def by_base(trio: Trio) -> list[list[Variant]]:
    """Group the variants by their base."""
    groups: dict[Pin, list[Variant]] = defaultdict(list)
    for variant in trio.variants:
        groups[variant.source.base].append(variant)
    return list(groups.values())


def encoders_of(trio: Trio, report: Report) -> dict[Role, Encoder]:
    """Load tokenizers and templates alone: enough to see what each would be sent."""
    return {
        encoder.variant.role: encoder
        for variants in by_base(trio)
        for encoder in load_encoders(variants, report)
    }


def sent_to_all(
    encoders: dict[Role, Encoder], trio: Trio, prompt: Prompt, format: Format, stop_texts: bool
) -> dict[Role, Sent]:
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


class LocalBackend:
    """Weights loaded here, on CUDA where there is one, else on the CPU."""

    def __init__(self, trio: Trio, report: Report) -> None:
        """Load every group of the trio.

        Raises:
            WeightsError: something cannot be had or does not fit.
        """
        self.trio = trio
        self.groups: list[Group] = []
        for variants in by_base(trio):
            like = self.groups[0] if self.groups else None
            self.groups.append(submit(load_group, trio, variants, report, like).result())
            engine = self.groups[-1].engine
            if engine.shape.device.type == "cuda":
                submit(engine.use_lanes, MAX_ROWS + KEPT_LANES, trio.max_context).result()
        self.scheduler = Scheduler(MAX_ROWS)
        self._encoders = {e.variant.role: e for group in self.groups for e in group.encoders}

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, Sent]:
        """Return what each variant's model is sent, without running any."""
        if not self.groups:
            raise WeightsError(f"The trio {self.trio.name} is closed. Open it again.")
        return sent_to_all(self._encoders, self.trio, prompt, format, stop_texts)

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[Piece, ...]]:
        """Return an answer's tokens as a training row of each variant would hold them."""
        sent = self.sent(prompt)
        return {role: self._encoders[role].completion(one, answer) for role, one in sent.items()}

    def loaded(self) -> dict[Role, Loaded]:
        """Return which weights answer for each variant."""
        return {
            variant.role: loaded
            for group in self.groups
            for variant, loaded in zip(group.variants, group.loaded, strict=True)
        }

    def memory(self) -> Memory:
        """Return what the trio holds, in bytes."""
        return memory([group.engine for group in self.groups])

    def _label_ids(
        self, role: Role, sent: Sent, labels: Sequence[str], room: int
    ) -> list[list[int]]:
        ids = self._encoders[role].continuations(sent, labels)
        if sum(map(len, ids)) > room:
            raise PromptError(
                f"The labels are {sum(map(len, ids))} tokens, and the prompt leaves {room} of the "
                f"context of {self.trio.name}. Shorten them."
            )
        return ids

    def losses(self, text: str) -> Iterator[dict[Role, list[float]]]:
        """Yield, chunk by chunk, the loss of every token of a plain text; see `Backend`."""
        sent = self.sent(Prompt(text), "same")
        if any(len(one.ids) < 2 for one in sent.values()):
            raise PromptError("The text is one token; what follows nothing has no loss.")
        reading = [
            (variant.role, group.engine, group.engine.new_slot(Row(sent[variant.role].ids, row)))
            for group in self.groups
            for variant, row in zip(group.variants, group.rows, strict=True)
        ]
        found: dict[Role, list[float]] = {variant.role: [] for variant in self.trio.variants}
        while any(len(found[role]) + 1 < len(sent[role].ids) for role, _, _ in reading):
            for role, engine, slot in reading:
                ids, at = sent[role].ids, len(slot.fed)
                chunk, following = ids[at : at + engine.chunk], ids[at + 1 : at + 1 + engine.chunk]
                if following:
                    nats = submit(engine.score, slot, chunk, following).result()
                    found[role] += [-one for one in nats]
            yield found

    def close(self) -> None:
        """Cancel what runs and drop the weights; what is asked later is refused."""
        self.scheduler.close()
        self.groups.clear()

    def stream(
        self,
        prompt: Prompt,
        sampling: Sampling,
        format: Format = "own",
        stop_texts: bool = True,
        deadline_s: float | None = None,
        labels: Sequence[str] = (),
        roles: Collection[Role] = ROLES,
    ) -> Events:
        """Yield tokens of all variants as they come, and one Stop for each; see `Backend`."""
        answers = self.answers(prompt, sampling, format, stop_texts, labels)
        asked = [answers[v.role] for v in self.trio.variants if v.role in roles]
        yield from self.scheduler.run(asked, deadline_s)

    def answers(
        self,
        prompt: Prompt,
        sampling: Sampling,
        format: Format,
        stop_texts: bool,
        labels: Sequence[str] = (),
    ) -> dict[Role, Answering]:
        """Return an answer to be run for each variant.

        Raises:
            PromptError: the prompt, or the prompt and the labels, cannot be sent to one of them.
        """
        sent = self.sent(prompt, format, stop_texts)
        room = {role: self.trio.max_context - len(one.ids) for role, one in sent.items()}
        ids = {role: self._label_ids(role, one, labels, room[role]) for role, one in sent.items()}
        return {
            variant.role: Answering(
                role=variant.role,
                engine=group.engine,
                row=Row(sent[variant.role].ids, adapter),
                sampling=sampling,
                detokenizer=Detokenizer(group.encoders[0].tokenizer),
                stops=StopText(sent[variant.role].stop_texts),
                left=min(sampling.max_new_tokens, room[variant.role]),
                eos_ids=group.eos_ids,
                labels=ids[variant.role],
            )
            for group in self.groups
            for variant, adapter in zip(group.variants, group.rows, strict=True)
        }
