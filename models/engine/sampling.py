"""Logits → ids.

Pure; the draw comes in as a uniform number, so that a seed decides the text whatever else is in
the batch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from models.types import Sampling

FEW = 256
"""Candidates that are sorted first; a nucleus seldom holds more."""
NARROW = 4096
"""Candidates that are sorted where it does, and by a CUDA graph, which cannot choose."""
REFUSALS = 16
"""Of one draw by bounds, before all logits are asked for; an ordinary text's has one or two."""
_DEEP = 12.0
"""Nats below the likeliest token, within which a nucleus nearly always lies."""
_ROWS = 4
"""Rows that are picked for at a time, so that what it takes is small."""


def pick(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the next token of each row, by the row's own settings.

    Args:
        logits: (B, V), any float dtype.
        uniforms: B numbers in [0, 1): where in the kept mass each row draws. Greedy ignores it.
        samplings: B settings; temperature 0 is greedy.
        drawn: rows whose token is drawn already.

    Returns:
        ids (B,) int64, and their log-probabilities (B,) float32 under the untouched model, in nats.
    """
    found = [
        _pick(
            logits[n : n + _ROWS].float(),
            uniforms[n : n + _ROWS],
            samplings[n : n + _ROWS],
            {row - n: id for row, id in (drawn or {}).items()},
        )
        for n in range(0, len(logits), _ROWS)
    ]
    ids, logprobs = zip(*found, strict=True)
    return torch.cat(ids), torch.cat(logprobs)


def _pick(
    logits: Tensor,
    uniforms: Sequence[float],
    samplings: Sequence[Sampling],
    drawn: Mapping[int, int],
) -> tuple[Tensor, Tensor]:
    ids = likeliest(logits)
    for row, sampling in enumerate(samplings):
        if row in drawn:
            ids[row] = drawn[row]
        elif sampling.temperature:  # row by row: its sums are the same to the bit in any company
            ids[row] = _drawn(logits[row : row + 1], uniforms[row], sampling)
    return ids, logprobs(logits, ids)


def _drawn(logits: Tensor, uniform: float, sampling: Sampling) -> Tensor:
    settings = knobs([sampling], logits.device)
    where = logits.new_tensor([uniform], dtype=torch.float64)
    if sampling.draws_from_all:
        return draw_from_all(logits / settings[0], where)[0]
    for width in (FEW, NARROW, logits.shape[1]):
        ids, sure = draw(logits, where, *settings, width=width)
        if sure:
            break
    return ids[0]


def likeliest(logits: Tensor) -> Tensor:
    """Return the id of each row's largest logit, the lowest one of equals: (B, V) → (B,).

    In two stages, for torch's argmax takes five times as long as its maximum.
    """
    parts = _in_parts(logits)
    part = parts.amax(-1).argmax(-1)
    within = parts[torch.arange(len(logits), device=logits.device), part].argmax(-1)
    return part * parts.shape[2] + within


def _in_parts(logits: Tensor) -> Tensor:
    """(B, V) → (B, parts, V / parts), where the vocabulary can be parted."""
    rows, vocabulary = logits.shape
    return logits.view(rows, next((n for n in (64, 32, 16, 8) if vocabulary % n == 0), 1), -1)


def top_ids(logits: Tensor, count: int) -> Tensor:
    """Return the ids of each row's largest logits, in no order: (B, V) → (B, count).

    On a CPU in two stages: what is largest stands in the parts whose own largest are largest.
    """
    rows, vocabulary = logits.shape
    if logits.device.type != "cpu":
        return logits.topk(count, sorted=False).indices
    part = next((n for n in (64, 32, 16, 8) if vocabulary % n == 0 and vocabulary // n > count), 1)
    if part == 1:
        return logits.topk(count, sorted=False).indices
    parts = logits.view(rows, -1, part)
    best = parts.amax(-1).topk(count, sorted=False).indices
    within = parts.gather(1, best[:, :, None].expand(-1, -1, part)).flatten(1)
    found = within.topk(count, sorted=False).indices
    return best.gather(1, found // part) * part + found % part


def after_sampler(top: Tensor, logits: Tensor, normaliser: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities that `draw` would give each row's likeliest tokens: (B, K).

    Args:
        top: (B, K) float32, the largest logits, in descending order.
        logits: (B, V) float32, all.
        normaliser: (B,), log of the sum of all exponentials.
        sampling: temperature 0 gives the likeliest token everything.
    """
    if not sampling.temperature:
        ranks = torch.arange(top.shape[1], device=top.device)
        return (ranks == 0).to(top.dtype).expand_as(top)
    if sampling.temperature == 1:  # dividing a whole vocabulary takes as long as it sounds
        scaled, own, whole = logits, top, normaliser.clone()
    else:
        scaled, own = logits / sampling.temperature, top / sampling.temperature
        whole = scaled.logsumexp(-1)
    least = torch.full_like(whole, -torch.inf)
    top_k = sampling.top_k if sampling.top_k < logits.shape[1] else 0
    if top_k or sampling.top_p < 1:
        for row, one in enumerate(scaled):
            kept = _kept(own[row], whole[row], top_k, sampling.top_p)
            deep = one.amax() - _DEEP  # what is far below the best is seldom kept
            for some in () if kept is not None else (one[one >= deep], one):
                kept = _kept(some.sort(descending=True).values, whole[row], top_k, sampling.top_p)
                if kept is not None:
                    break
            if kept is not None:
                whole[row], least[row] = kept.logsumexp(-1), kept[-1]
    return (own - whole[:, None]).exp().masked_fill(own < least[:, None], 0.0)


def _kept(largest: Tensor, whole: Tensor, top_k: int, top_p: float) -> Tensor | None:
    """Return the logits that top-k and then top-p keep; None if there may be more than are given.

    Args:
        largest: (K,), the largest logits over the temperature, in descending order.
        whole: log of the mass of all tokens.
        top_k: 0 keeps all.
        top_p: mass of the nucleus.
    """
    if top_k:
        if len(largest) < top_k:
            return None
        largest = largest[:top_k]
        whole = largest.logsumexp(-1)
    mass = (largest - whole).double().exp()
    before = mass.cumsum(-1) - mass
    if not top_k and before[-1] + mass[-1] < top_p:
        return None
    return largest[before < top_p]


def logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of one id in each row: (B, V), (B,) → (B,), in nats."""
    return logits.gather(1, ids[:, None])[:, 0] - normaliser(logits)


def normaliser(logits: Tensor) -> Tensor:
    """Return the log of the sum of each row's exponentials: (B, V) → (B,).

    In parts, for shorter sums lose fewer digits.
    """
    return _normalisers(_in_parts(logits)).logsumexp(-1)


def _normalisers(parts: Tensor) -> Tensor:
    """(B, parts, N) → (B, parts)."""
    top = parts.amax(-1)
    return torch.where(top.isneginf(), top, top - parts.log_softmax(-1).amax(-1))


def knobs(
    samplings: Sequence[Sampling], device: torch.device | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return temperature, top-k and top-p of each row, (B,) each; greedy has temperature 1."""
    return (
        torch.tensor([s.temperature or 1.0 for s in samplings], device=device),
        torch.tensor([s.top_k for s in samplings], device=device),
        torch.tensor([s.top_p for s in samplings], dtype=torch.float64, device=device),
    )


def draw(
    logits: Tensor,
    uniforms: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    width: int = NARROW,
) -> tuple[Tensor, Tensor]:
    """Invert the cumulative distribution of the kept tokens, the likeliest first.

    Top-k keeps the k likeliest tokens; then top-p keeps the smallest set of them whose mass under
    the temperature reaches p (Holtzman et al. 1904.09751, §3.1), the one that crosses it included.
    No step depends on a value, so that a CUDA graph can hold it.

    Args:
        logits: (B, V) float32.
        uniforms: (B,) float64 in [0, 1).
        temperature: (B,), above 0.
        top_k: (B,); 0 keeps the whole vocabulary.
        top_p: (B,) float64.
        width: how many of the likeliest tokens are looked at.

    Returns:
        ids (B,) int64, and for each whether `width` was wide enough to be sure of it.
    """
    vocabulary = logits.shape[1]
    width = min(width, vocabulary)
    scaled = logits / temperature[:, None]
    order = top_ids(scaled, width).sort().values  # of equals here the lowest comes first
    kept, ranks = scaled.gather(1, order).sort(descending=True, stable=True)
    order = order.gather(1, ranks)
    limit = torch.where(top_k > 0, top_k, vocabulary)[:, None]
    ranks = torch.arange(width, device=logits.device)
    inside = kept.double().masked_fill(ranks >= limit, -torch.inf)
    whole = torch.where(
        limit <= width,
        inside.logsumexp(-1, keepdim=True),
        normaliser(scaled)[:, None].double(),
    )
    mass = (inside - whole).exp()
    reach = mass.cumsum(-1)
    # Where the limit is the width, others that are left out may be as likely.
    complete = (limit < width)[:, 0] | (width == vocabulary)
    nucleus = mass.masked_fill(reach - mass >= top_p[:, None], 0.0)
    inner = nucleus.cumsum(-1)
    drawn = (inner <= uniforms[:, None] * inner[:, -1:]).sum(-1).clamp(max=width - 1)
    sure = complete | ((reach[:, -1] >= top_p) & (top_p < 1) & (limit[:, 0] >= vocabulary))
    return order.gather(1, drawn[:, None])[:, 0], sure


def draw_from_all(scaled: Tensor, uniforms: Tensor) -> Tensor:
    """Invert the cumulative distribution of all tokens, in the order of their ids: (B,).

    In two stages, the part and the token in it, and without a sort. No step depends on a value.

    Args:
        scaled: (B, V) float32, logits over the temperature.
        uniforms: (B,) float64 in [0, 1).
    """
    rows = torch.arange(len(scaled), device=scaled.device)
    parts = _in_parts(scaled)
    sums = _normalisers(parts).double()
    mass = (sums - sums.amax(-1, keepdim=True)).exp()
    reach = mass.cumsum(-1)
    goal = uniforms * reach[:, -1]
    part = _crossed(reach, goal)
    own = (parts[rows, part].double() - sums[rows, part, None]).exp().cumsum(-1)
    share = (goal - reach[rows, part] + mass[rows, part]) / mass[rows, part]
    return part * parts.shape[2] + _crossed(own, share * own[:, -1])


def _crossed(reach: Tensor, goal: Tensor) -> Tensor:
    """Return which of the growing sums is the first above each goal: (B, N), (B,) → (B,)."""
    return (reach <= goal[:, None]).sum(-1).clamp(max=reach.shape[1] - 1)


def draw_below(
    most: Tensor,
    logit: Callable[[int], float],
    logits: Callable[[], Tensor],
    uniform: float,
    temperature: float,
) -> int:
    """Draw from all tokens, of whose logits only bounds are known, as if all were known.

    A token that is drawn by the bounds is kept as often as its own logit has it of its bound;
    else another is drawn (von Neumann's rejection). Where bounds say little, all are asked for.

    Args:
        most: (1, V) float32, what the logits are at most.
        logit: tells one of them.
        logits: tells all of them, (1, V) float32, at a price.
        uniform: in [0, 1); all that is drawn here follows from it.
        temperature: above 0.
    """
    scaled, more = most / temperature, random.Random(uniform)
    for _ in range(REFUSALS):
        id = _drawn_from_all(scaled, uniform)
        own, bound = logit(id) / temperature, float(scaled[0, id])
        if more.random() < math.exp(min(0.0, own - bound)):
            return id
        scaled[0, id] = own  # so that none is refused twice
        uniform = more.random()
    return _drawn_from_all(logits() / temperature, uniform)


def _drawn_from_all(scaled: Tensor, uniform: float) -> int:
    return int(draw_from_all(scaled, scaled.new_tensor([uniform], dtype=torch.float64)))
