"""Events → each variant's answer so far, and `compare`, the main job in one call.

The fold is pure: times come with the events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from models import (
    NONE,
    Backend,
    Demonstration,
    EncodedPrompt,
    Event,
    Events,
    Form,
    Format,
    Layout,
    ModelInfo,
    Prompt,
    PromptError,
    Queued,
    Ranked,
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
    """What one variant has said so far, and what it was asked."""

    role: Role
    sent: EncodedPrompt
    weights: ModelInfo
    text: str = ""
    ids: tuple[int, ...] = ()
    """The tokens it gave, the end-of-text token included."""
    place: int = 0
    """Comparisons that come first while this one waits."""
    first_token_s: float | None = None
    """Seconds from the turn's beginning to the first token."""
    last_token_s: float | None = None
    stopped: StopReason | None = None
    """None while it runs."""
    label_logprobs: tuple[float, ...] = ()
    """Log-probability of each label as what follows the prompt, where labels were asked for."""
    error: str | None = None

    @property
    def new_tokens(self) -> int:
        """Tokens of the answer."""
        return len(self.ids)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the first, over the time since the first; None below two tokens."""
        if self.new_tokens < 2 or self.first_token_s is None or self.last_token_s is None:
            return None
        elapsed = self.last_token_s - self.first_token_s
        return (self.new_tokens - 1) / elapsed if elapsed > 0 else None

    @property
    def figures(self) -> str:
        """Tokens, seconds to the first, and speed, as one line."""
        if self.place:
            return f"waiting: place {self.place} in the line"
        parts = [f"{self.new_tokens} tok"]
        if self.first_token_s is not None:
            parts.append(f"first {self.first_token_s:.2f} s")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s:.1f} tok/s")
        return " · ".join(parts)


Answers = dict[Role, Answer]


def fold(answers: Answers, event: Event) -> Answers:
    """Return the answers after one more event."""
    if isinstance(event, Queued):
        return {role: replace(one, place=event.place) for role, one in answers.items()}
    one = answers[event.role]
    if isinstance(event, Ranked):
        one = replace(one, label_logprobs=event.logprobs)
    elif isinstance(event, Token):
        first = event.at_s if one.first_token_s is None else one.first_token_s
        one = replace(
            one,
            text=one.text + event.text,
            ids=(*one.ids, event.id),
            place=0,
            first_token_s=first,
            last_token_s=event.at_s,
        )
    else:
        assert isinstance(event, Stop)
        one = replace(
            one, text=one.text + event.text, place=0, stopped=event.reason, error=event.error
        )
    return {**answers, event.role: one}


def begin(trio: Backend, request: Request) -> Answers:
    """Return the answers before anything was said: what each is sent, and by what it is answered.

    Raises:
        PromptError: the prompt cannot be sent.
    """
    infos = trio.model_info(request.strengths)
    sent = trio.encode(request.prompt, request.format, request.stop_texts)
    return {
        role: Answer(role, one, infos[role]) for role, one in sent.items() if role in request.roles
    }


def follow(answers: Answers, events: Events) -> Generator[Answers, Collection[Role] | None, None]:
    """Yield the answers after every event; roles that are sent in are cancelled.

    Closing it closes `events`, and so cancels all.
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
    strengths: Strengths = NONE,
    **sampling: Any,
) -> Answers:
    """Send one prompt to all variants and return their finished answers.

    Args:
        trio: from `open_trio`.
        text: the instruction, or, where `instruction` is given or the form is another, the input.
        form: the prompt form; None is few-shot where there are examples, else instruction.
        instruction: an imperative above the input.
        examples: demonstrations, as values or as `input => output`.
        layout: labels of the input and of the cue.
        format: each variant in its own format, or the same bytes to all.
        stop_texts: end the answers of text variants where the layout would begin again.
        deadline_s: end after so many seconds.
        strengths: scale of each variant's adapter, from 0 (the base) to 1.5; 1 is as trained.
        **sampling: fields of `Sampling`, such as max_new_tokens, temperature, seed.

    Raises:
        PromptError: the prompt or a setting cannot be sent; nothing has run.
    """
    prompt = prompt_of(text, form, instruction, examples, layout)
    request = Request(
        prompt, Sampling(**sampling), format, stop_texts, strengths, deadline_s=deadline_s
    )
    return finish(follow(begin(trio, request), trio.stream(request)))


def finish(states: Iterable[Answers]) -> Answers:
    """Run to the end and return the last state."""
    return deque(states, maxlen=1)[0]


def prompt_of(
    text: str,
    form: Form | None,
    instruction: str = "",
    examples: Iterable[str | Demonstration] = (),
    layout: Layout | None = None,
) -> Prompt:
    """Make a prompt of one text: the instruction if there is no other, else the input."""
    if isinstance(examples, str):
        raise PromptError("examples is one text; it must be a list of 'input => output'.")
    shots = [
        one if isinstance(one, Demonstration) else parse_demonstration(one) for one in examples
    ]
    form = form or ("few-shot" if shots else "instruction")
    if form == "instruction" and not instruction:
        return make_prompt(form, instruction=text, demonstrations=shots, layout=layout)
    return make_prompt(
        form, instruction=instruction, input=text, demonstrations=shots, layout=layout
    )
