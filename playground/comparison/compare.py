"""Compares variants on one prompt: collects the events of a stream into each variant's answer.

`fold` is pure, since events carry their times. `compare` does everything in one call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from models import (
    AS_TRAINED,
    Backend,
    Demonstration,
    EncodedPrompt,
    Event,
    Events,
    Form,
    Format,
    Layout,
    ModelInfo,
    Note,
    Prompt,
    PromptError,
    Queued,
    Ranked,
    Reasoning,
    Request,
    Role,
    Sampling,
    Stop,
    StopReason,
    Strengths,
    Token,
)
from playground.prompting.forms import make_prompt, parse_demonstration


@dataclass(frozen=True, slots=True)
class Answer:
    """One variant's answer so far, with its encoded prompt and its weights."""

    role: Role
    sent: EncodedPrompt
    weights: ModelInfo
    text: str = ""
    ids: tuple[int, ...] = ()
    """Ids of the answer's tokens, the end-of-text token included."""
    place: int = 0
    """Place in the queue while it waits; 0 once it runs."""
    first_token_s: float | None = None
    """Seconds from the start of the request's turn to the answer's first token, after any
    reasoning."""
    last_token_s: float | None = None
    stopped: StopReason | None = None
    """Why it ended; None while it runs."""
    label_logprobs: tuple[float, ...] = ()
    """Log-probability of each label as the continuation of the prompt, if labels were given."""
    error: str | None = None
    reasoning: str = ""
    """What a server sent apart from its answer, before it."""
    notes: tuple[str, ...] = ()
    """What is to be known of how a server was asked or answered, a sentence or two each."""

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.ids or self.reasoning or self.stopped)

    @property
    def new_tokens(self) -> int:
        """Number of tokens in the answer."""
        return len(self.ids)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the first, per second since the first; None for fewer than two tokens."""
        if self.new_tokens < 2 or self.first_token_s is None or self.last_token_s is None:
            return None
        elapsed = self.last_token_s - self.first_token_s
        return (self.new_tokens - 1) / elapsed if elapsed > 0 else None

    @property
    def figures(self) -> str:
        """Number of tokens, seconds to the first, and speed, as one line of text."""
        if self.place:
            return f"waiting: place {self.place} in the line"
        return figures(self.new_tokens, self.first_token_s, self.tokens_per_s)


def figures(new_tokens: int, first_token_s: float | None, tokens_per_s: float | None) -> str:
    """Return number of tokens, seconds to the first, and tokens per second, as one line of text."""
    parts = [f"{new_tokens} tok"]
    if first_token_s is not None:
        parts.append(f"first {first_token_s:.2f} s")
    if tokens_per_s is not None:
        parts.append(f"{tokens_per_s:.1f} tok/s")
    return " · ".join(parts)


Answers = dict[Role, Answer]


def fold(answers: Answers, event: Event) -> Answers:
    """Add one event to the answers."""
    if isinstance(event, Queued):
        return {  # if several backends serve a trio, some may answer while others wait
            role: answer if answer.begun else replace(answer, place=event.place)
            for role, answer in answers.items()
        }
    answer = answers[event.role]
    if isinstance(event, Ranked):
        answer = replace(answer, label_logprobs=event.logprobs)
    elif isinstance(event, Token):
        first = event.at_s if answer.first_token_s is None else answer.first_token_s
        answer = replace(
            answer,
            text=answer.text + event.text,
            ids=(*answer.ids, event.id),
            place=0,
            first_token_s=first,
            last_token_s=event.at_s,
        )
    elif isinstance(event, Reasoning):
        answer = replace(answer, reasoning=answer.reasoning + event.text, place=0)
    elif isinstance(event, Note):
        answer = replace(answer, notes=(*answer.notes, event.text))
    else:
        assert isinstance(event, Stop)
        answer = replace(
            answer, text=answer.text + event.text, place=0, stopped=event.reason, error=event.error
        )
    return {**answers, event.role: answer}


def begin(trio: Backend, request: Request) -> Answers:
    """Return an empty answer for each variant of a request, with its encoded prompt and weights.

    Raises:
        PromptError: the prompt cannot be encoded.
    """
    infos = trio.model_info(request.strengths)
    sent = trio.encode(request.prompt, request.format, request.stop_texts)
    return {
        role: Answer(role, encoded, infos[role])
        for role, encoded in sent.items()
        if role in request.roles
    }


def follow(answers: Answers, events: Events) -> Generator[Answers, Collection[Role] | None, None]:
    """Yield the answers after every event; roles sent into the generator are cancelled.

    Closing the generator closes `events`, which cancels all answers.
    """
    with closing(events):
        stopped: Collection[Role] | None = None
        while True:
            try:
                event = events.send(stopped)
            except StopIteration:
                return
            answers = fold(answers, event)
            stopped = yield answers


def compare(
    trio: Backend,
    text: str,
    *,
    form: Form | None = None,
    instruction: str = "",
    examples: Iterable[str | Demonstration] = (),
    layout: Layout | None = None,
    format: Format = "own",
    stop_texts: bool = True,
    deadline_s: float | None = None,
    strengths: Strengths = AS_TRAINED,
    stop_loops: bool = False,
    **sampling: Any,
) -> Answers:
    """Send one prompt to all variants and return their finished answers.

    Args:
        trio: from `open_trio`.
        text: the instruction; the input if `instruction` is given or the form is another one.
        form: the prompt form; None means few-shot if there are examples, else instruction.
        instruction: an imperative above the input.
        examples: demonstrations, as values or as `input => output`.
        layout: label of the input, and cue.
        format: each variant in its own format, or the same bytes to all.
        stop_texts: whether answers of text variants end where they start a new demonstration.
        deadline_s: seconds after which the answers are cut off.
        strengths: scale of each variant's adapter, from 0 (the base) to 1.5; 1 is as trained.
        stop_loops: whether an answer ends where it repeats itself.
        **sampling: fields of `Sampling`, such as max_new_tokens, temperature, seed.

    Raises:
        PromptError: the prompt or a setting is invalid; nothing has run.
    """
    prompt = prompt_of(text, form, instruction, examples, layout)
    request = Request(
        prompt,
        Sampling(**sampling),
        format,
        stop_texts,
        strengths,
        deadline_s=deadline_s,
        stop_loops=stop_loops,
    )
    return finish(follow(begin(trio, request), trio.stream(request)))


def finish(states: Iterable[Answers]) -> Answers:
    """Run a stream of answers to its end, and return the last ones."""
    return deque(states, maxlen=1)[0]


def prompt_of(
    text: str,
    form: Form | None,
    instruction: str = "",
    examples: Iterable[str | Demonstration] = (),
    layout: Layout | None = None,
) -> Prompt:
    """Make a prompt in which one text is the input, or the instruction.

    It is the instruction if the form is instruction and `instruction` is empty.
    """
    shots = demonstrations_of(examples)
    form = form or ("few-shot" if shots else "instruction")
    if form == "instruction" and not instruction:
        return make_prompt(form, instruction=text, demonstrations=shots, layout=layout)
    return make_prompt(
        form, instruction=instruction, input=text, demonstrations=shots, layout=layout
    )


def demonstrations_of(examples: Iterable[str | Demonstration]) -> list[Demonstration]:
    """Return the demonstrations of a list of examples: values, or texts `input => output`.

    Raises:
        PromptError: the examples are not a list, or one of them is not a demonstration.
    """
    if isinstance(examples, str):
        raise PromptError("examples is one text; it must be a list of 'input => output'.")
    if isinstance(examples, Mapping) or not isinstance(examples, Iterable):
        raise PromptError(f"examples is {examples!r}; it must be a list of 'input => output'.")
    return [parse_demonstration(example) for example in examples]
