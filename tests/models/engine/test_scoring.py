"""Log-probabilities of given tokens, against texts that are read alone."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_engine import ROWS, begin, make_engine, step, texts

from models.engine.engine import Engine
from models.engine.interface import SequenceSpec
from models.engine.sampling.lm_head import ExactHead
from models.engine.scoring import token_distributions
from models.types import Sampling


def alone(engine: Engine, prompt, continuation) -> float:
    """Score a continuation as one text of its own."""
    ids = (*prompt.ids, *continuation)
    states = engine.hidden_states(SequenceSpec(ids[:-1], prompt.adapter))[len(prompt.ids) - 1 :]
    logprobs = engine.lm.exact_head(states).float().log_softmax(-1)
    return float(logprobs[range(len(continuation)), list(continuation)].sum())


CONTINUATIONS = [(5,), (5, 6), (5, 6, 9, 11), (8,), (8, 3, 4), (7, 7, 7)]


@pytest.mark.parametrize("length", [3, 30, 61])
def test_continuations_that_share_a_prompt_score_what_each_scores_alone(
    family, lanes, length
) -> None:
    engine = make_engine(family, lanes=lanes)
    for adapter in (0, 2):
        prompt = SequenceSpec(tuple(4 + n * n % 60 for n in range(length)), adapter)
        running, _ = begin(engine, prompt, Sampling())
        scores = engine.score_continuations(running, CONTINUATIONS)
        assert scores == pytest.approx(
            [alone(engine, prompt, continuation) for continuation in CONTINUATIONS], abs=2e-4
        )
        few = make_engine(family, chunk=2, lanes=lanes)  # branches in several passes
        again, _ = begin(few, prompt, Sampling())
        assert few.score_continuations(again, CONTINUATIONS) == pytest.approx(scores, abs=2e-4)


def test_a_cache_that_grows_between_parts_keeps_what_the_first_wrote() -> None:
    prompt = SequenceSpec(tuple(4 + n * n % 60 for n in range(77)), 1)
    continuations = [tuple(4 + (n + shift) * n % 60 for n in range(90)) for shift in range(4)]
    scores = []
    for chunk in (64, 1000):
        engine = make_engine("llama", chunk=chunk)
        running, _ = begin(engine, prompt, Sampling())
        scores.append(engine.score_continuations(running, continuations))
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_a_text_in_chunks_scores_what_it_scores_whole(family) -> None:
    row = SequenceSpec(tuple(4 + n * n % 60 for n in range(23)), 1)
    engine, distributions = make_engine(family), []
    slot = engine.new_cache(row)
    for at in range(0, 23, 5):
        ids, then = row.ids[at : at + 5], row.ids[at + 1 : at + 6]
        distributions += engine.score_chunk([slot], [ids], [then], 0, Sampling())[0]
    first = SequenceSpec(row.ids[:1], row.adapter)
    loss = [distribution.loss for distribution in distributions if distribution.loss is not None]
    assert sum(loss) == pytest.approx(-alone(engine, first, row.ids[1:]), abs=1e-3)
    assert len(loss) == 22


def test_texts_that_are_read_together_are_read_as_alone(family) -> None:
    engine, rows = make_engine(family), [SequenceSpec(tuple(range(4, 24)), n) for n in (0, 1, 2)]

    def read(specs: list[SequenceSpec]) -> list:
        slots, distributions = [engine.new_cache(row) for row in specs], [[] for _ in specs]
        for at in range(0, 20, 7):
            ids = [row.ids[at : at + 7] for row in specs]
            then = [row.ids[at + 1 : at + 8] for row in specs]
            read = engine.score_chunk(slots, ids, then, 5, Sampling())
            distributions = [
                before + more for before, more in zip(distributions, read, strict=True)
            ]
        return distributions

    for together, row in zip(read(rows), rows, strict=True):
        (own,) = read([row])
        assert [e.ids for e in together] == [e.ids for e in own]
        for ours, theirs in zip(together, own, strict=True):
            assert ours.p == pytest.approx(theirs.p, abs=1e-4)
            assert (ours.loss, ours.rank) == (pytest.approx(theirs.loss, abs=1e-4), theirs.rank)


def test_ranking_changes_no_token_that_is_said_later(family, lanes) -> None:
    engine = make_engine(family, lanes=lanes)
    running, picked = begin(engine, ROWS[1], Sampling(12))
    engine.score_continuations(running, CONTINUATIONS)
    tokens = [picked.id, *(step(engine, [running])[0].id for _ in range(11))]
    assert tokens == texts(make_engine(family, lanes=lanes), [ROWS[1]], Sampling(12))[0]


class Fixed(torch.nn.Module):
    """A model that is its head: states are what the head makes logits of."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.config = self

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.linear

    def get_text_config(self) -> Fixed:
        return self


@torch.inference_mode()
def test_equal_logits_cost_the_log_of_the_vocabulary() -> None:
    head, states = ExactHead(Fixed(torch.zeros(1000, 8))), torch.ones(20, 8)
    distributions = token_distributions(head, states, [*[7] * 19, None], 5, Sampling())
    assert [distribution.loss for distribution in distributions[:-1]] == pytest.approx(
        [math.log(1000)] * 19
    )
    assert [distribution.rank for distribution in distributions[:-1]] == [1] * 19
    assert (distributions[-1].loss, distributions[-1].rank) == (None, None)
    assert distributions[0].p == pytest.approx((0.001,) * 5)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mass_of_all_tokens_is_one(dtype) -> None:
    torch.manual_seed(0)
    weight, states = 3 * torch.randn(64, 32, dtype=dtype), torch.randn(5, 32, dtype=dtype)
    distributions = token_distributions(ExactHead(Fixed(weight)), states, range(5), 64, Sampling())
    exact = (states.float() @ weight.float().T).log_softmax(-1)
    for n, distribution in enumerate(distributions):
        assert sum(distribution.p) == pytest.approx(1, abs=1e-5)
        assert distribution.p == pytest.approx(
            exact[n, list(distribution.ids)].exp().tolist(), abs=1e-5
        )
        assert distribution.loss == pytest.approx(-float(exact[n, n]), abs=1e-4)
        assert distribution.rank == 1 + int((exact[n] > exact[n, n]).sum())


@torch.inference_mode()
def test_no_token_is_more_likely_than_certain() -> None:
    """In bf16 a logit about 40 is off by up to an eighth."""
    torch.manual_seed(1)
    weight = torch.randn(4096, 64, dtype=torch.bfloat16)
    states = weight[:50] * 0.7 + 0.01 * torch.randn(50, 64, dtype=torch.bfloat16)
    distributions = token_distributions(ExactHead(Fixed(weight)), states, range(50), 3, Sampling())
    assert all(
        distribution.loss >= 0 and sum(distribution.p) <= 1 + 1e-5 for distribution in distributions
    )
