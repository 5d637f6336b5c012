"""Log-probabilities of given tokens, and next-token distributions. Knows token ids, not text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from models.engine.attention.attention import Place
from models.engine.attention.kv_cache import KVCache
from models.engine.interface import TokenIdDistribution
from models.engine.language_model import LanguageModel
from models.engine.sampling.lm_head import ExactHead
from models.engine.sampling.logits import top_ids
from models.engine.sampling.sampler import truncated_probabilities
from models.logprobs import MAX_TOP
from models.types import Sampling

_MAX_STATES = 96
"""States whose full logits are in memory at a time: 150 MB with a vocabulary of 262,144. With 16,
reading the head so often takes twice as long; 96 are half of a chunk of each of three texts."""


def score_continuations(
    lm: LanguageModel,
    cache: KVCache,
    state: Tensor,
    continuations: Sequence[Sequence[int]],
    max_tokens: int,
) -> list[float]:
    """Return the log-probability of each continuation of a prompt, summed over its tokens, in nats.

    The continuations share the keys and values of the prompt. All their tokens except each
    continuation's last are fed once, as parallel branches.

    Args:
        lm: the model.
        cache: contains exactly the prompt; the tokens fed here are not added to its `ids`.
        state: (1, d), hidden state of the prompt's last token.
        continuations: token ids, at least one each.
        max_tokens: most tokens fed in one pass.
    """
    cached = len(cache.ids)
    places: list[Place] = []
    fed, branches = [], []
    targets = [(0, ids[0]) for ids in continuations]
    """Index of the state that predicts a token (0 is the prompt's last), and the token's id."""
    owners = list(range(len(continuations)))
    """The continuation that each target belongs to."""
    for number, ids in enumerate(continuations):
        begin = cached + len(places)
        for id, following in pairwise(ids):
            places.append((cache, cached + len(places)))
            branches.append(begin)
            fed.append((id,))
            targets.append((len(places), following))
            owners.append(number)
    states = [state]
    cache.reserve(cached + len(fed))  # growth between two parts would lose what the first wrote
    for at in range(0, len(fed), max_tokens):
        part = slice(at, at + max_tokens)
        states.append(lm.forward(places[part], fed[part], branches[part])[:, -1])
    sums = [0.0] * len(continuations)
    logprobs = token_logprobs(lm.exact_head, torch.cat(states), *zip(*targets, strict=True))
    for number, logprob in zip(owners, logprobs.tolist(), strict=True):
        sums[number] += logprob
    return sums


def token_logprobs(
    head: ExactHead, hidden: Tensor, states: Sequence[int], targets: Sequence[int]
) -> Tensor:
    """Return log-probabilities of tokens, in nats, as (N,) float32.

    Args:
        head: the exact output head.
        hidden: (S, d), hidden states.
        states: (N,), index of the state that predicts each token.
        targets: (N,), ids of the tokens.
    """
    normalisers = torch.cat([part.normaliser for part in _refined_logits(head, hidden)])
    numbers = torch.tensor(states, device=hidden.device)
    ids = torch.tensor(targets, device=hidden.device)
    return head.logits_of(hidden[numbers], ids) - normalisers[numbers]


def token_distributions(
    head: ExactHead,
    hidden: Tensor,
    following: Sequence[int | None],
    top: int,
    sampling: Sampling,
) -> list[TokenIdDistribution]:
    """Return the next-token distribution after each token of a text.

    Args:
        head: the exact output head.
        hidden: (S, d), the hidden state of each token.
        following: the token after each of them; None at a text's end.
        top: number of most likely tokens to return, up to 64.
        sampling: settings for the probabilities after the sampler.
    """
    distributions: list[TokenIdDistribution] = []
    for part in _refined_logits(head, hidden):
        largest, order = part.top.sort(-1, descending=True)
        p = (largest[:, :top] - part.normaliser[:, None]).exp().tolist()
        sampled = p
        if top:
            kept = truncated_probabilities(largest, part.logits, part.normaliser, sampling)
            sampled = kept[:, :top].tolist()
        ids = part.ids.gather(1, order[:, :top]).tolist()
        begin = len(distributions)
        targets = following[begin : begin + len(ids)]
        # At a text's end nothing follows: token 0 stands in, and its loss and rank are dropped.
        losses, ranks = _losses_and_ranks(head, part, [id or 0 for id in targets])
        distributions += [
            TokenIdDistribution(
                tuple(ids[n]),
                tuple(p[n]),
                tuple(sampled[n]),
                None if target is None else losses[n],
                None if target is None else ranks[n],
            )
            for n, target in enumerate(targets)
        ]
    return distributions


class _RefinedLogits(NamedTuple):
    """Logits of a few states, those of the most likely tokens in full float32 precision."""

    hidden: Tensor
    """(S, d)."""
    logits: Tensor
    """(S, V) float32; outside the top only as precise as the head's dtype."""
    ids: Tensor
    """(S, 64), ids of the most likely tokens, in no order."""
    top: Tensor
    """(S, 64), their logits."""
    normaliser: Tensor
    """(S,): log of the sum of all exponentials."""


def _refined_logits(head: ExactHead, hidden: Tensor) -> Iterator[_RefinedLogits]:
    """Yield logits of a few states at a time, so that a long text's are never all in memory.

    In bf16 a logit of 30 is off by up to a sixteenth, and a token's probability could exceed 1. So
    the logits of the most likely tokens, which have most of the mass, are recomputed in float32.
    """
    for states in torch.split(hidden, _MAX_STATES):
        logits = head(states).float()
        ids = top_ids(logits, min(MAX_TOP, logits.shape[1]))
        numbers = torch.arange(len(states), device=states.device).repeat_interleave(ids.shape[1])
        top = head.logits_of(states[numbers], ids.flatten()).view_as(ids)
        logits.scatter_(1, ids, top)
        yield _RefinedLogits(states, logits, ids, top, logits.logsumexp(-1))


def _losses_and_ranks(
    head: ExactHead, part: _RefinedLogits, targets: Sequence[int]
) -> tuple[list[float], list[int]]:
    """Return loss and rank of the token that followed each state."""
    ids = torch.tensor(targets, device=part.hidden.device)
    logits = head.logits_of(part.hidden, ids)
    losses = (part.normaliser - logits).clamp_min(0.0)  # below 0 only by rounding
    is_top = part.ids == ids[:, None]
    among_top = part.top.masked_fill(~is_top, -torch.inf).amax(-1)
    ranks = 1 + (part.top > among_top[:, None]).sum(-1)
    for row in (~is_top.any(-1)).nonzero()[:, 0].tolist():  # few rows; ranking all would be slow
        ranks[row] = 1 + (part.logits[row] > part.logits[row, ids[row]]).sum()
    return losses.tolist(), ranks.tolist()
