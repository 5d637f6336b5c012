"""Log-probabilities of given tokens, and what else was expected. Knows ids, not text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from models.engine.attention.kv_cache import KVCache
from models.engine.interface import TokenIdDistribution
from models.engine.sampling.lm_head import ExactHead
from models.engine.sampling.logits import top_ids
from models.engine.sampling.sampler import truncated_probabilities
from models.logprobs import MAX_LIKELIEST
from models.types import Sampling

Feed = Callable[[Sequence[tuple[KVCache, int]], Sequence[Sequence[int]], Sequence[int]], Tensor]
"""Places, the tokens that go there and where their branches begin → hidden states, (B, T, d)."""
_STATES = 96
"""States whose whole logits are held at a time: 150 MB with a vocabulary of 262,144. By sixteen,
the head is read so often that it takes twice as long; two of these hold three texts' chunks."""


def rank(
    feed: Feed,
    head: ExactHead,
    slot: KVCache,
    state: Tensor,
    continuations: Sequence[Sequence[int]],
    at_once: int,
) -> list[float]:
    """Return the log-probability of each continuation of a prompt, in nats: its tokens' sum.

    The continuations share the keys and values of the prompt: each token of them, but for the last
    one, is fed once, side by side as branches.

    Args:
        feed: runs the model.
        head: the exact one.
        slot: holds the prompt, and nothing after it; what is fed here is not kept.
        state: (1, d), what the prompt's last token left.
        continuations: ids, one at least of each.
        at_once: tokens of one pass.
    """
    held = len(slot.fed)
    places: list[tuple[KVCache, int]] = []
    fed, branches = [], []
    owners = [(0, ids[0]) for ids in continuations]
    labels = list(range(len(continuations)))
    for label, ids in enumerate(continuations):
        begins = held + len(places)
        for id, following in pairwise(ids):
            places.append((slot, held + len(places)))
            branches.append(begins)
            fed.append((id,))
            owners.append((len(places), following))
            labels.append(label)
    states = [state]
    for at in range(0, len(fed), at_once):
        part = slice(at, at + at_once)
        states.append(feed(places[part], fed[part], branches[part])[:, -1])
    sums = [0.0] * len(continuations)
    nats = logprobs(head, torch.cat(states), *zip(*owners, strict=True)).tolist()
    for label, one in zip(labels, nats, strict=True):
        sums[label] += one
    return sums


def logprobs(
    head: ExactHead, hidden: Tensor, owners: Sequence[int], targets: Sequence[int]
) -> Tensor:
    """Return log-probabilities of tokens, in nats, as (N,) float32.

    Args:
        head: the exact one.
        hidden: (S, d), states.
        owners: (N,), which state predicts each token.
        targets: (N,), ids of the tokens.
    """
    normalisers = torch.cat([one.normaliser for one in _refined(head, hidden)])
    at = torch.tensor(owners, device=hidden.device)
    ids = torch.tensor(targets, device=hidden.device)
    return head.at(hidden[at], ids) - normalisers[at]


def expected(
    head: ExactHead,
    hidden: Tensor,
    following: Sequence[int | None],
    count: int,
    sampling: Sampling,
) -> list[TokenIdDistribution]:
    """Return what is expected after each token of a text.

    Args:
        head: the exact one.
        hidden: (S, d), the state that each token left.
        following: the token after each of them; None at a text's end.
        count: how many of the likeliest tokens are told, up to 64.
        sampling: for the distribution that a draw would be made from.
    """
    found: list[TokenIdDistribution] = []
    for part in _refined(head, hidden):
        top, places = part.top.sort(-1, descending=True)
        order = places[:, :count]
        p = (top[:, :count] - part.normaliser[:, None]).exp().tolist()
        sampled = p
        if count:
            drawn = truncated_probabilities(top, part.logits, part.normaliser, sampling)
            sampled = drawn[:, :count].tolist()
        ids = part.ids.gather(1, order).tolist()
        came = following[len(found) : len(found) + len(ids)]
        # Where a text ends none came, and what is told of token 0 is dropped.
        losses, ranks = _came(head, part, [id or 0 for id in came])
        told = [
            (None, None) if id is None else one
            for id, *one in zip(came, losses, ranks, strict=True)
        ]
        found += [
            TokenIdDistribution(tuple(who), tuple(whole), tuple(cut), *one)
            for who, whole, cut, one in zip(ids, p, sampled, told, strict=True)
        ]
    return found


class _Part(NamedTuple):
    """A few states, their logits, and the likeliest tokens' logits again in float32."""

    hidden: Tensor
    logits: Tensor
    """(S, V) float32, as exact as the head's type."""
    ids: Tensor
    """(S, 64), the likeliest tokens, in no order."""
    top: Tensor
    """(S, 64), their logits in full precision."""
    normaliser: Tensor
    """(S,): log of the sum of all exponentials."""


def _refined(head: ExactHead, hidden: Tensor) -> Iterator[_Part]:
    """Yield the states a few at a time, so that a long text's logits are never all held.

    In bf16 a logit of 30 is off by up to a sixteenth, and a token would be more likely than 1. So
    the likeliest tokens, which hold the mass, are computed again in float32.
    """
    for states in torch.split(hidden, _STATES):
        logits = head(states).float()
        ids = top_ids(logits, min(MAX_LIKELIEST, logits.shape[1]))
        owners = torch.arange(len(states), device=states.device).repeat_interleave(ids.shape[1])
        top = head.at(states[owners], ids.flatten()).view_as(ids)
        logits.scatter_(1, ids, top)
        yield _Part(states, logits, ids, top, logits.logsumexp(-1))


def _came(head: ExactHead, part: _Part, came: Sequence[int]) -> tuple[list[float], list[int]]:
    """Return loss and rank of the token that came after each state."""
    ids = torch.tensor(came, device=part.hidden.device)
    logit = head.at(part.hidden, ids)
    nats = (part.normaliser - logit).clamp_min(0.0)  # below it only by rounding
    is_top = part.ids == ids[:, None]
    own = part.top.masked_fill(~is_top, -torch.inf).amax(-1)
    ranks = 1 + (part.top > own[:, None]).sum(-1)
    for row in (~is_top.any(-1)).nonzero()[:, 0].tolist():  # few, and counting all takes long
        ranks[row] = 1 + (part.logits[row] > part.logits[row, ids[row]]).sum()
    return nats.tolist(), ranks.tolist()
