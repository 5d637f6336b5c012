"""The values that modules exchange: frozen, plain, equal if their contents are equal.

Uses no torch, files or user interface; every other module may import this one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from models.errors import PromptError, WeightsError

Role = Literal["base", "task", "instruct"]
"""How a variant was trained."""
Form = Literal["instruction", "zero-shot", "few-shot"]
"""Prompt form: an instruction, a bare layout with a cue, or demonstrations and a cue."""
Format = Literal["own", "same"]
"""Prompts in each variant's own format, or the same bytes to all variants."""
Reads = Literal["text", "chat"]
"""What a variant reads: raw text, or messages in its chat template."""
StopReason = Literal[
    "eos", "stop", "length", "loop", "cancelled", "deadline", "error",
    "content_filter", "tool_calls", "refusal", "unknown",  # of servers alone
]  # fmt: skip
"""Why an answer ended; `stop` is the prompt form's own stop text, `loop` that it went round."""
Precision = Literal["nf4", "none"]
"""Precision of linear layers: 4-bit NormalFloat (Dettmers et al. 2305.14314, §3), or as stored."""

Strengths = Mapping[Role, float]
"""Scale of each variant's adapter: 0 is the base, 1 as trained; the default is 1."""
AS_TRAINED: Strengths = MappingProxyType({})

ROLES: tuple[Role, ...] = ("base", "task", "instruct")
FORMS: tuple[Form, ...] = ("instruction", "zero-shot", "few-shot")
FORMATS: tuple[Format, ...] = ("own", "same")
MAX_NEW_TOKENS = 4096
MAX_STRENGTH = 1.5


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One solved item shown before the question (the k of k-shot counts these)."""

    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The task's own layout: `{input_label}: …` and, on the next line, `{cue}:`."""

    input_label: str = "Input"
    cue: str = "Output"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the user wrote it, before it is rendered in any model's format."""

    instruction: str = ""
    input: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    layout: Layout | None = None
    """None is the instruction form: the instruction, then the unlabelled input."""

    @property
    def form(self) -> Form:
        """The prompt's form, derived from its content."""
        if self.layout is None:
            return "instruction"
        return "few-shot" if self.demonstrations else "zero-shot"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is sampled, and the largest number of new tokens."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    """0 is greedy: the likeliest token, always."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    seed: int = 0
    min_p: float = 0.0
    """Least probability of a token that may be sampled, as a share of the likeliest one's."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of prompt and answer become less likely; 1 changes nothing."""
    presence_penalty: float = 0.0
    """Subtracted once from the logits of tokens that are in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted from the logits of tokens of the answer, for each time they are in it."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            PromptError: a value is not a number or out of its range.
        """
        _whole("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        _real("temperature", self.temperature, 0.0, 10.0)
        if 0 < self.temperature < 0.01:  # logits over it would overflow
            raise PromptError(f"temperature is {self.temperature!r}; 0 is greedy, else from 0.01.")
        _real("top_p", self.top_p, 1e-6, 1.0)
        _whole("top_k", self.top_k, 0, 1_000_000)
        _real("min_p", self.min_p, 0.0, 1.0)
        _real("repetition_penalty", self.repetition_penalty, 0.5, 2.0)
        _real("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _real("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _whole("seed", self.seed, 0, 2**31 - 1)

    @property
    def is_untruncated(self) -> bool:
        """Whether every token of the vocabulary may be sampled."""
        return self.temperature > 0 and not self.top_k and self.top_p == 1 and not self.min_p

    @property
    def is_truncated(self) -> bool:
        """Whether tokens are sampled, and top-k, top-p or min-p may exclude some."""
        return self.temperature > 0 and not self.is_untruncated

    @property
    def is_penalised(self) -> bool:
        """Whether tokens that were said already have other logits."""
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PromptError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")


def _real(name: str, value: object, low: float, high: float) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:  # false for NaN, too
        raise PromptError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.")


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Pin:
    """A source of weights and a revision of it."""

    source: str
    """`package:NAME`, a Hub id, or the absolute path of a folder."""
    revision: str | None = None

    @property
    def name(self) -> str:
        """The last part of the source, as of a path of any system or a Hub id."""
        return re.split(r"[/\\]", self.source)[-1]

    def __str__(self) -> str:
        """Return the pin as a trio file writes it."""
        return f"{self.source}@{self.revision}" if self.revision else self.source


@dataclass(frozen=True, slots=True)
class Weights:
    """A model to load here."""

    base: Pin
    """Variants with equal `base` share its weights and run as one batch."""
    adapter: Pin | None = None
    """LoRA adapter on `base`; None is the base alone."""
    same_base: bool = False
    """Whether the trio says that `base` is what the adapter was trained on, by another name."""

    def __str__(self) -> str:
        """Return base and adapter."""
        return f"{self.base} + {self.adapter}" if self.adapter else str(self.base)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks OpenAI's protocol, and a model that it serves."""

    url: str
    """Base URL, without the route: `http://host:8000/v1`; a query is kept."""
    model: str
    key: str = ""
    """Name of the environment variable that holds the key; never the key."""
    request: tuple[tuple[str, str], ...] = ()
    """Fields of a request and the names that the server has for them; empty leaves it out."""

    def __str__(self) -> str:
        """Return model and server, without the query of its URL, which may hold a secret."""
        return f"{self.model} at {self.url.partition('?')[0]}"


UNKNOWN_ID = -1
"""The id of a token of which a server gave only the text."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the models that a trio compares; a column of the page."""

    role: Role
    """How it was trained; declared, never guessed from a chat template."""
    name: str
    """Heading of the column, in a few words."""
    source: Weights | Endpoint
    reads: Reads
    ends_with: str = ""
    """Text that this variant's own format adds after the prompt, as its training rows did."""

    @property
    def weights(self) -> Weights:
        """The weights to load here.

        Raises:
            WeightsError: the variant's source is an endpoint.
        """
        if isinstance(self.source, Endpoint):
            raise WeightsError(f"{self.name} is {self.source}; this needs weights that are here.")
        return self.source


@dataclass(frozen=True, slots=True)
class Trio:
    """A base, a task-tuned and an instruction-tuned variant, to be compared."""

    name: str
    title: str
    variants: tuple[Variant, ...]
    """One of each role, in the order of `ROLES`."""
    precision: Precision = "nf4"
    max_context: int = 4096
    """Largest number of tokens of prompt and answer together."""
    context_given: bool = True
    """Whether the trio file says so; else a base that was made for fewer tokens lowers it."""


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """One token of a text or prompt."""

    id: int
    text: str
    special: bool
    """Whether it is a control token such as `<bos>`, not text that someone wrote."""
    data: bytes = b""
    """Its UTF-8 bytes, which may be part of a character; empty if it is special."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, or possible fault, in a prompt, and how to fix it."""

    level: Literal["error", "warning"]
    """An error makes the comparison unfair or the answer worse; a warning may be meant."""
    text: str
    cure: str


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as one variant's model gets it: text and tokens."""

    text: str
    """The rendered prompt, special tokens included."""
    pieces: tuple[TokenPiece, ...]
    """The tokens, in order; empty when a server tokenises on its own side."""
    stop_texts: tuple[str, ...] = ()
    """An answer ends before the first of these."""
    findings: tuple[Finding, ...] = ()
    """Faults of its tokens."""
    vocabulary: str = ""
    """Hash over all tokens in the order of their ids; with equal hashes, equal ids mean equal
    tokens."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The file that tokenizer, chat template and ends of text came from, by what it is."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids, in order."""
        return tuple(piece.id for piece in self.pieces)
