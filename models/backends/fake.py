"""A scripted backend: no weights, but the real scheduler and events. For tests and demos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.backends.base import TokenEncoder
from models.engine.interface import SampledToken, SequenceSpec
from models.errors import PromptError
from models.events import Events
from models.logprobs import Scores, TokenDistribution, TokenScores, TopToken
from models.model_info import HeadGate, Memory, ModelInfo
from models.request import Request, ScoreRequest
from models.serving.generation import Generation
from models.serving.scheduler import Scheduler
from models.text.detokenizer import StopText
from models.text.render import stop_text, to_text
from models.types import (
    AS_TRAINED,
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
"""Number of words in a prefill chunk."""
END = -1
"""Id of the token that ends a script."""
FIRST_WORD = 1000
"""First id of the words of prompts and texts; ids below it are positions in a script."""
BOS = TokenPiece(2, "<bos>", True)
EOS = TokenPiece(1, "<eos>", True)


@dataclass(eq=False)
class ScriptedSequence:
    """A sequence, its number of prefilled tokens, and its position in the script."""

    spec: SequenceSpec
    prefilled: int = 0
    at: int = 0


class ScriptedEngine:
    """An engine that advances each sequence by one position of its script per decode step."""

    def __init__(self, lengths: Sequence[int], delay_s: float) -> None:
        """Store the length of each adapter's script, and the seconds that a step takes."""
        self.lengths = lengths
        self.delay_s = delay_s

    def add(self, spec: SequenceSpec, sampling: Sampling) -> ScriptedSequence:
        """Add a sequence, at the first token of its script."""
        return ScriptedSequence(spec)

    def prefill(self, sequence: ScriptedSequence) -> SampledToken | None:
        """Prefill a chunk of the prompt; return the first new token after the last chunk."""
        sequence.prefilled += CHUNK
        if sequence.prefilled < len(sequence.spec.ids):
            time.sleep(self.delay_s)
            return None
        return self._next(sequence)

    def start_step(
        self, sequences: Sequence[ScriptedSequence]
    ) -> Callable[[], list[list[SampledToken]]]:
        """Sleep for a step's time; return a function that returns each sequence's next token."""
        time.sleep(self.delay_s)
        return lambda: [[self._next(sequence)] for sequence in sequences]

    def score_continuations(
        self, sequence: ScriptedSequence, continuations: Sequence[Sequence[int]]
    ) -> list[float]:
        """Make each continuation less likely than the one before it."""
        return [-1.0 - n for n in range(len(continuations))]

    def remove(self, sequence: ScriptedSequence, keep: bool = True) -> None:
        """Do nothing; there is no KV cache to free."""

    def _next(self, sequence: ScriptedSequence) -> SampledToken:
        at, sequence.at = sequence.at, sequence.at + 1
        return SampledToken(at if at < self.lengths[sequence.spec.adapter] else END, -1.0)


class ScriptEncoder:
    """An encoder whose tokens are words; ids of generated tokens are positions in the script."""

    def __init__(self, script: Sequence[str], words: dict[int, str]) -> None:
        """Encode for one variant; `words`, shared by all variants, collects the words by id."""
        self.script = script
        self._words = words

    def tokens(self, text: str, opening: bool = False) -> tuple[TokenPiece, ...]:
        """Split a text into words, one token each."""
        first, *others = text.split(" ")
        words = [first, *(f" {word}" for word in others)]
        return (*([BOS] if opening else []), *(self._word(n, word) for n, word in enumerate(words)))

    def pieces(self, ids: Sequence[int]) -> tuple[TokenPiece, ...]:
        """Return the tokens with the given ids."""
        return tuple(map(self._piece, ids))

    def following(self, sent: EncodedPrompt, text: str) -> tuple[TokenPiece, ...]:
        """Split a text that follows a prompt into words, one token each."""
        return self.tokens(text)

    def completion(self, prompt: EncodedPrompt, answer: str) -> tuple[TokenPiece, ...]:
        """Return an answer's words, and the token that ends the text."""
        return (*(self._word(n, f" {word}") for n, word in enumerate(answer.split())), EOS)

    # The methods of `TokenDecoder`, as a `Generation` needs them.
    def add(self, id: int) -> str:
        """Return the text at a position of the script."""
        return self.script[id]

    def rest(self) -> str:
        """Return nothing, as no text is withheld."""
        return ""

    def top(self, count: int) -> tuple[TopToken, ...]:
        """Return a fixed list of words, each half as likely as the one before."""
        return tuple(
            TopToken(self._word(-n, f" word{n}").id, f" word{n}", 0.5**n, float(n == 1))
            for n in range(1, count + 1)
        )

    def _word(self, n: int, text: str) -> TokenPiece:
        self._words[FIRST_WORD + n] = text
        return TokenPiece(FIRST_WORD + n, text, False, text.encode())

    def _piece(self, id: int) -> TokenPiece:
        if id == END:
            return TokenPiece(END, "<eos>", True)
        text = self._words.get(id) or (self.script[id] if 0 <= id < len(self.script) else "")
        return TokenPiece(id, text, False, text.encode())


class FakeBackend:
    """Answers every prompt with each variant's script, one token per step."""

    def __init__(
        self,
        trio: Trio,
        script: Mapping[Role, Sequence[str]],
        delay_s: float = 0.0,
        max_rows: int = 3,
    ) -> None:
        """Set up a scripted engine; an answer ends with EOS after the last token of its script."""
        self.trio = trio
        words: dict[int, str] = {}
        self._encoders = {v.role: ScriptEncoder(script[v.role], words) for v in trio.variants}
        self._delay_s = delay_s
        self._engine = ScriptedEngine(
            [len(encoder.script) for encoder in self._encoders.values()], delay_s
        )
        self._scheduler = Scheduler(max_rows)

    @property
    def encoders(self) -> Mapping[Role, TokenEncoder]:
        """An encoder of words for each variant."""
        return self._encoders

    @property
    def open_requests(self) -> int:
        """Number of streams that wait or run; tests check here that closing a stream frees it."""
        return self._scheduler.open_requests

    def encode(
        self, prompt: Prompt, format: Format = "own", stop_texts: bool = True
    ) -> dict[Role, EncodedPrompt]:
        """Render the prompt as flat text, in which each word is a token."""
        first = next(iter(self._encoders.values()))
        pieces = first.tokens(to_text(prompt), opening=True)
        if len(pieces) > self.trio.max_context:
            raise PromptError(
                f"The prompt is {len(pieces) - 1} tokens, and the context of {self.trio.name} is "
                f"{self.trio.max_context}. Shorten it."
            )
        text = "".join(piece.text for piece in pieces)
        stop = stop_text(prompt) if stop_texts else None
        encoded = EncodedPrompt(text, pieces, (stop,) if stop else (), vocabulary="words")
        return {variant.role: encoded for variant in self.trio.variants}

    def model_info(self, strengths: Strengths = AS_TRAINED) -> dict[Role, ModelInfo]:
        """Return placeholder values, as there are no weights."""
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

    def score(self, request: ScoreRequest) -> Iterator[Scores]:
        """Yield the same distribution and loss for every token."""
        sent = self.encode(request.prompt, request.format)
        texts = {
            role: (*sent[role].pieces, *request.continuation.get(role, ()))
            for role in sent
            if role in request.roles
        }
        top = next(iter(self._encoders.values())).top(request.top)
        scored, last = TokenDistribution(top, 1.0, 2), TokenDistribution(top, None, None)
        for end in range(CHUNK, max(map(len, texts.values())) + CHUNK, CHUNK):
            time.sleep(self._delay_s)
            yield {
                role: TokenScores(
                    role,
                    pieces,
                    len(sent[role].pieces),
                    (*[scored] * (len(pieces) - 1), last)[:end],
                )
                for role, pieces in texts.items()
            }

    def memory(self) -> Memory:
        """Return zeros, as there are no weights."""
        return Memory(0, 0, 0, 0)

    def close(self) -> None:
        """Cancel all requests."""
        self._scheduler.close()

    def stream(self, request: Request) -> Events:
        """Yield the tokens of all variants' scripts in lockstep, and one `Stop` for each."""
        sent = self.encode(request.prompt, request.format, request.stop_texts)
        generations = [
            Generation(
                role=role,
                engine=self._engine,
                spec=SequenceSpec(
                    (*sent[role].ids, *request.forced_prefix.get(role, ())), adapter=number
                ),
                sampling=request.sampling,
                detokenizer=encoder,
                stops=StopText(()),
                remaining=request.sampling.max_new_tokens,
                eos_ids=frozenset({END}),
                labels=[(n,) for n in range(len(request.labels))],
                stops_loops=request.stop_loops,
            )
            for number, (role, encoder) in enumerate(self._encoders.items())
            if role in request.roles
        ]
        yield from self._scheduler.run(generations, request.deadline_s)
