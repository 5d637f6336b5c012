"""A scripted backend: no weights, the same scheduler and events. For tests and demos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.engine.interface import SampledToken, SequenceSpec
from models.errors import PromptError
from models.events import Events
from models.logprobs import TokenDistribution, Told, TopToken
from models.model_info import HeadGate, Memory, ModelInfo
from models.request import Request
from models.serving.generation import Generation
from models.serving.scheduler import Scheduler
from models.text.detokenizer import StopText
from models.text.render import stop_text, to_text
from models.types import (
    GREEDY,
    NONE,
    EncodedPrompt,
    Format,
    Prompt,
    Role,
    Sampling,
    Strengths,
    TokenPiece,
    Trio,
)

CHUNK = 64
"""Words of a prompt that are taken in at once."""
END = -1
"""The token that ends a script."""
WORDS = 1000
"""Ids of a text's words are from here on, those of a script's tokens below."""


@dataclass(eq=False)
class ScriptedRow:
    """One row, how much of its prompt is in, and how far its script has come."""

    row: SequenceSpec
    fed: int = 0
    at: int = 0


class ScriptedEngine:
    """Gives each row the next number of its script, one a step."""

    def __init__(self, lengths: Sequence[int], delay_s: float) -> None:
        """Take the length of each adapter's script, and how long a step takes."""
        self.lengths = lengths
        self.delay_s = delay_s

    def begin(self, row: SequenceSpec, sampling: Sampling) -> ScriptedRow:
        """Begin at the first token."""
        return ScriptedRow(row)

    def prefill(self, running: ScriptedRow) -> SampledToken | None:
        """Take in a chunk of the prompt; returns the first token after the last one."""
        running.fed += CHUNK
        if running.fed < len(running.row.ids):
            time.sleep(self.delay_s)
            return None
        return self._next(running)

    def launch(self, rows: Sequence[ScriptedRow]) -> Callable[[], list[list[SampledToken]]]:
        """Take a step's time, and return what gives the next token of each row."""
        time.sleep(self.delay_s)
        return lambda: [[self._next(running)] for running in rows]

    def rank(self, running: ScriptedRow, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Find each label less likely than the one before it."""
        return [-1.0 - n for n in range(len(continuations))]

    def end(self, running: ScriptedRow, keep: bool = True) -> None:
        """Hold nothing."""

    def _next(self, running: ScriptedRow) -> SampledToken:
        at, running.at = running.at, running.at + 1
        return SampledToken(at if at < self.lengths[running.row.adapter] else END, -1.0)


def _words(text: str) -> list[str]:
    first, *others = text.split(" ")
    return [first, *(f" {word}" for word in others)]


class Script:
    """The text of a script's tokens."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Take the tokens."""
        self._tokens = tokens

    def add(self, id: int) -> str:
        """Return the token's text."""
        return self._tokens[id]

    def rest(self) -> str:
        """Hold nothing back."""
        return ""


class FakeBackend:
    """Answers every prompt with its script, one token a step for each variant."""

    def __init__(
        self,
        trio: Trio,
        script: Mapping[Role, Sequence[str]],
        delay_s: float = 0.0,
        max_rows: int = 3,
    ) -> None:
        """Take the tokens that each variant answers with; after the last it ends by itself."""
        self.trio = trio
        self._script = [script[variant.role] for variant in trio.variants]
        self._delay_s = delay_s
        self._texts: dict[int, str] = {}
        self._engine = ScriptedEngine([len(tokens) for tokens in self._script], delay_s)
        self._scheduler = Scheduler(max_rows)

    @property
    def running(self) -> int:
        """How many streams wait or run; tests see here that closing frees."""
        return self._scheduler.open

    def sent(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Send the flat text; each word is a token."""
        words = _words(to_text(prompt))
        if len(words) >= self.trio.max_context:
            raise PromptError(
                f"The prompt is {len(words)} tokens, and the context of {self.trio.name} is "
                f"{self.trio.max_context}. Shorten it."
            )
        pieces = [TokenPiece(2, "<bos>", True)]
        pieces += [self._word(n, word) for n, word in enumerate(words)]
        text = "".join(piece.text for piece in pieces)
        stop = stop_text(prompt) if stop_texts else None
        one = EncodedPrompt(text, tuple(pieces), (stop,) if stop else (), vocabulary="words")
        return {variant.role: one for variant in self.trio.variants}

    def completion(self, prompt: Prompt, answer: str) -> dict[Role, tuple[TokenPiece, ...]]:
        """Each word is a token, and one ends the text."""
        words = [self._word(n, f" {word}") for n, word in enumerate(answer.split())]
        return {v.role: (*words, TokenPiece(1, "<eos>", True)) for v in self.trio.variants}

    def loaded(self, strengths: Strengths = NONE) -> dict[Role, ModelInfo]:
        """Name weights that are not there."""
        return {
            v.role: ModelInfo(
                "scripted",
                None,
                self.trio.precision,
                "none",
                "none",
                f"fake-{v.role}",
                HeadGate(False),
                strengths.get(v.role, 1.0),
            )
            for v in self.trio.variants
        }

    def tokens(self, text: str, opening: bool = False) -> dict[Role, tuple[TokenPiece, ...]]:
        """Each word is a token."""
        words = [self._word(n, one) for n, one in enumerate(_words(text))]
        opens = [TokenPiece(2, "<bos>", True)] if opening else []
        return {variant.role: (*opens, *words) for variant in self.trio.variants}

    def pieces(self, ids: Sequence[int]) -> dict[Role, tuple[TokenPiece, ...]]:
        """Each variant's tokens are those of its own script."""
        return {
            variant.role: tuple(
                TokenPiece(id, "<eos>", True)
                if id == END
                else TokenPiece(id, text, False, text.encode())
                for id in ids
                for text in [self._texts.get(id) or dict(enumerate(tokens)).get(id, "")]
            )
            for variant, tokens in zip(self.trio.variants, self._script, strict=True)
        }

    def _word(self, n: int, text: str) -> TokenPiece:
        """Return a word's token, whose text is remembered."""
        self._texts[WORDS + n] = text
        return TokenPiece(WORDS + n, text, False, text.encode())

    def read(
        self,
        ids: Mapping[Role, Sequence[int]],
        likeliest: int = 0,
        sampling: Sampling = GREEDY,
        strengths: Strengths = NONE,
    ) -> Iterator[dict[Role, list[TokenDistribution]]]:
        """Expect the same words after every token, each half as likely as the one before."""
        shown = tuple(
            TopToken(self._word(-n, f" word{n}").id, f" word{n}", 0.5**n, float(n == 1))
            for n in range(1, likeliest + 1)
        )
        for end in range(CHUNK, max(map(len, ids.values())) + CHUNK, CHUNK):
            time.sleep(self._delay_s)
            yield {
                role: [
                    TokenDistribution(shown, *((1.0, 2) if n + 1 < len(some) else (None, None)))
                    for n in range(min(end, len(some)))
                ]
                for role, some in ids.items()
            }

    def told(
        self, prompt: Prompt, format: Format = "own", answer: str = "", likeliest: int = 0
    ) -> Iterator[dict[Role, Told | str]]:
        """Tell nothing: what is here is read."""
        yield from ()

    def memory(self) -> Memory:
        """Hold nothing."""
        return Memory(0, 0, 0, 0)

    def close(self) -> None:
        """Cancel what runs."""
        self._scheduler.close()

    def stream(self, request: Request) -> Events:
        """Yield the script's tokens in step, and one Stop for each variant."""
        sent = self.sent(request.prompt, request.format, request.stop_texts)
        answers = [
            Generation(
                role=variant.role,
                engine=self._engine,
                row=SequenceSpec((*sent[variant.role].ids, *request.forced_prefix), adapter=number),
                sampling=request.sampling,
                detokenizer=Script(tokens),
                stops=StopText(()),
                left=request.sampling.max_new_tokens,
                eos_ids=frozenset({END}),
                labels=[(n,) for n in range(len(request.labels))],
            )
            for number, (variant, tokens) in enumerate(
                zip(self.trio.variants, self._script, strict=True)
            )
            if variant.role in request.roles
        ]
        yield from self._scheduler.run(answers, request.deadline_s)
