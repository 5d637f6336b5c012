"""Log-probabilities of given tokens. Knows ids, not text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from models.engine.head import ExactHead
from models.engine.slots import Slot

Feed = Callable[[Sequence[tuple[Slot, int]], Sequence[Sequence[int]], Sequence[int]], Tensor]
"""Places, the tokens that go there and where their branches begin → hidden states, (B, T, d)."""
_STATES = 16
"""States whose whole logits are held at a time where only a few of them are asked for."""


def rank(
    feed: Feed,
    head: ExactHead,
    slot: Slot,
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
    places: list[tuple[Slot, int]] = []
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

    The logits of a few states at a time: a vocabulary of 262,144 makes 1 MB of each.

    Args:
        head: the exact one.
        hidden: (S, d), states.
        owners: (N,), which state predicts each token.
        targets: (N,), ids of the tokens.
    """
    normalisers = torch.cat(
        [head(states).float().logsumexp(-1) for states in torch.split(hidden, _STATES)]
    )
    at = torch.tensor(owners, device=hidden.device)
    ids = torch.tensor(targets, device=hidden.device)
    return head.at(hidden[at], ids) - normalisers[at]
