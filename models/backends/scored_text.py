"""Scores texts with local weights, one chunk of each text per forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from models.engine.engine import Engine
from models.engine.interface import AdapterScale, SequenceSpec
from models.errors import PromptError, is_out_of_memory
from models.logprobs import TokenDistribution, TokenScores
from models.serving.compute_thread import submit
from models.text.encoder import Encoder
from models.types import Role, Sampling, TokenPiece


class ScoredText:
    """The text of one variant, and the scores of its tokens so far."""

    def __init__(
        self,
        role: Role,
        pieces: Sequence[TokenPiece],
        prompt_tokens: int,
        engine: Engine,
        encoder: Encoder,
        adapter_scale: AdapterScale,
    ) -> None:
        """Start with no scores; `pieces` are all tokens of the text, those of the prompt first."""
        self.role = role
        self.engine = engine
        self.encoder = encoder
        self.ids = tuple(piece.id for piece in pieces)
        self.cache = engine.new_cache(SequenceSpec(self.ids, *adapter_scale))
        self.distributions: list[TokenDistribution] = []
        """Next-token distribution after each scored token."""
        self._pieces = tuple(pieces)
        self._prompt_tokens = prompt_tokens

    @property
    def remaining(self) -> int:
        """Number of tokens that are not scored yet."""
        return len(self.ids) - len(self.distributions)

    def ids_from(self, offset: int) -> tuple[int, ...]:
        """Return a chunk of ids that starts `offset` tokens after the first unscored one."""
        return self.ids[len(self.distributions) + offset :][: self.engine.chunk]

    def scores(self) -> TokenScores:
        """Return the scores so far."""
        return TokenScores(self.role, self._pieces, self._prompt_tokens, tuple(self.distributions))


def score_chunks(texts: Iterable[ScoredText], top: int, sampling: Sampling) -> None:
    """Score the next chunk of every text; texts of one engine share a pass if they can.

    Args:
        texts: the texts; finished ones are skipped.
        top: number of most likely tokens to return of each distribution.
        sampling: settings for the probabilities after the sampler.

    Raises:
        PromptError: out of memory.
    """
    passes: dict[tuple[Engine, int], list[ScoredText]] = defaultdict(list)
    for text in texts:
        if text.remaining:  # only chunks of equal length can share a pass
            passes[text.engine, min(text.engine.chunk, text.remaining)].append(text)
    for (engine, _), together in passes.items():
        caches = [text.cache for text in together]
        ids, following = ([text.ids_from(offset) for text in together] for offset in (0, 1))
        try:
            chunks = submit(engine.score_chunk, caches, ids, following, top, sampling).result()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise PromptError("Out of memory: shorten the text.") from error
        for text, chunk in zip(together, chunks, strict=True):
            text.distributions += map(text.encoder.distribution, chunk)
