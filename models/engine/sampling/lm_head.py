"""The output head, hidden states → logits: exact, or screened by an 8-bit copy.

Most bytes that a step of a small model reads are its head's. An 8-bit copy of the head finds the
candidates, whose logits are then computed exactly; the other tokens, the tail, keep the copy's
approximate logits. Where a token is sampled it may lie in the tail, so more candidates are
computed. A gate measures at load, on a fixed text, whether the copy is accurate enough. Screening
pays off on a CPU. Times are measured only to be shown: on a busy machine they would decide by
chance, and another head gives another text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.layers.head_changes import HeadChange
from models.engine.layers.packed_matmul import has_fbgemm
from models.engine.layers.q8_0 import Q8Matrix, row_chunks
from models.engine.sampling.int8_matmul import Int8Matrix, quantize_rows
from models.engine.sampling.inverse_cdf import rejection_sample
from models.engine.sampling.logits import top_ids
from models.model_info import HeadGate

CANDIDATES = 64
"""Number of exact logits of a row whose most likely token is taken."""
SAMPLING_CANDIDATES = 256
"""Number of exact logits of a row whose token is sampled: the top 64 may hold only 0.6 of the
probability."""
_CHUNK_ROWS = 2048
"""Rows of the head that are multiplied at a time if a sample needs all logits."""
MAX_KL = 0.02
"""Largest allowed KL divergence from the exact head, in nats, mean over a fixed text."""
MAX_LOSS_CHANGE = 0.02
"""Largest allowed change of the fixed text's loss, in nats per token."""


ExactIds = Mapping[int, Tensor]
"""Ids of tokens, (N,) int64, by the index of their row."""
NO_IDS: ExactIds = MappingProxyType({})


class Head(Protocol):
    """Hidden states → logits, which are valid until the head is called again."""

    def __call__(
        self, hidden: Tensor, sampled: Sequence[int] = (), exact: ExactIds = NO_IDS
    ) -> Tensor:
        """Return the logits of each state: (B, d) → (B, V).

        Args:
            hidden: the states.
            sampled: indices of the rows whose token is sampled; others take the most likely one.
            exact: (N,) ids of rows whose logits must be exact, beside those of the candidates.
        """
        ...


class ExactHead:
    """The model's own output head, with its logit soft cap if it has one.

    Where adapters change the head, the last columns of a state are not its own: they hold the
    scales of these adapters, in the order of `changes`.
    """

    def __init__(self, model: Any, changes: Sequence[HeadChange] = ()) -> None:
        """Use the head of a causal language model, and what adapters change in it."""
        self.linear = model.get_output_embeddings()
        self.changes = changes
        self.softcap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def __call__(
        self, hidden: Tensor, sampled: Sequence[int] = (), exact: ExactIds = NO_IDS
    ) -> Tensor:
        """Return the logits, in the dtype of the states; all are exact."""
        states, scales = self._split(hidden)
        logits = self.linear(states)
        for change, scale in zip(self.changes, scales, strict=True):
            logits = change.changed(logits, states, scale)
        return self._capped(logits)

    def logits_of(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Return the logit of one token for each of (N, d) hidden states, in float32: (N,).

        bf16 is too coarse: logits near 20 are an eighth apart, and half of neighbours are equal.
        """
        states, scales = self._split(hidden.float())
        logits = (states * self.linear.weight[ids].float()).sum(-1)
        if self.linear.bias is not None:
            logits = logits + self.linear.bias[ids].float()
        for change, scale in zip(self.changes, scales, strict=True):
            logits = change.changed_at(logits, states, ids, scale[..., 0])
        return self._capped(logits)

    def _split(self, hidden: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the states, and the (…, 1) scales of each change that they carry."""
        if not self.changes:
            return hidden, ()
        width = hidden.shape[-1] - len(self.changes)
        return hidden[..., :width], torch.split(hidden[..., width:], 1, -1)

    def _capped(self, logits: Tensor) -> Tensor:
        return torch.tanh(logits / self.softcap) * self.softcap if self.softcap else logits


class ScreenedHead:
    """A head whose 8-bit copy finds the candidates, for which exact logits are computed."""

    def __init__(self, weight: Tensor | Q8Matrix, copy: Int8Matrix | None = None) -> None:
        """Hold the exact head's weight, (V, d), and its 8-bit copy, made if it is not given."""
        self.weight = weight
        self.copy = copy or Int8Matrix(quantize_rows(weight))
        self._logits = torch.empty(0, len(weight))
        """Buffer that is reused between steps, since a new one in each step fragments memory."""

    def __call__(
        self, hidden: Tensor, sampled: Sequence[int] = (), exact: ExactIds = NO_IDS
    ) -> Tensor:
        """Return the logits in float32, exact for the candidates."""
        if len(hidden) > len(self._logits):
            self._logits = torch.empty(len(hidden), len(self.weight))
        logits = self._logits[: len(hidden)]
        self.copy.multiply(hidden, logits)
        if not sampled and not exact:
            self._refine(logits, hidden, CANDIDATES)
            return logits
        states = torch.split(hidden, 1)
        for row, (own, state) in enumerate(zip(torch.split(logits, 1), states, strict=True)):
            count = SAMPLING_CANDIDATES if row in sampled else CANDIDATES
            if row not in exact:
                self._refine(own, state, count)
                continue
            ids = exact[row]
            own[0, ids] = -torch.inf  # the candidates are others
            self._refine(own, state, count)
            own[0, ids] = self._exact(state, ids[None])[0]
        return logits

    def sample(
        self,
        logits: Tensor,
        state: Tensor,
        uniform: float,
        temperature: float,
        penalised: Mapping[int, float] = MappingProxyType({}),
    ) -> int:
        """Sample from the whole vocabulary as the exact head would.

        The distribution is the exact head's, unless a logit's error exceeds `error_bound`. The
        sampled token's logit is replaced by the exact one in `logits`.

        Args:
            logits: (1, V), as this head returned them for the state.
            state: (1, d).
            uniform: in [0, 1); all random numbers used here follow from it.
            temperature: above 0.
            penalised: logits of tokens that were said already, under the penalties, by their ids.
        """
        bounds = logits + self.error_bound(logits, state)
        self._refine(bounds, state, SAMPLING_CANDIDATES)
        ids, values = list(penalised), torch.tensor(list(penalised.values()))
        bounds[0, ids] = values

        def exact(id: int) -> float:
            return self._exact(state, torch.tensor([[id]])).item()

        def logit(id: int) -> float:
            return penalised[id] if id in penalised else exact(id)

        def all_logits() -> Tensor:  # of this row alone: the same in any batch
            chunks = row_chunks(self.weight, _CHUNK_ROWS)
            parts = [functional.linear(state.float(), chunk.float()) for chunk in chunks]
            logits = torch.cat(parts, 1).to(state.dtype).float()
            logits[0, ids] = values
            return logits

        id = rejection_sample(bounds, logit, all_logits, uniform, temperature)
        logits[0, id] = exact(id)
        return id

    def error_bound(self, logits: Tensor, states: Tensor) -> Tensor:
        """Return a bound on the error of each logit: (B, V), for (B, d) states."""
        rounding = torch.finfo(states.dtype).eps
        return logits.abs().mul_(rounding).add_(self.copy.error_bound(states)).mul_(1 + rounding)

    def _refine(self, logits: Tensor, states: Tensor, count: int) -> None:
        """Replace each row's `count` largest logits by exact ones: (B, V), for (B, d) states."""
        ids = top_ids(logits, count)
        logits.scatter_(1, ids, self._exact(states, ids))

    def _exact(self, states: Tensor, ids: Tensor) -> Tensor:
        """Return the logits of some tokens of each row: (B, d), (B, K) → (B, K).

        Multiplied element-wise and summed, since a matmul's order of summation depends on the
        number of rows; then rounded as the exact head rounds.
        """
        logits = (self.weight[ids].float() * states.float()[:, None]).sum(-1)
        return logits.to(states.dtype).float()


def reason_not_to_screen(exact: ExactHead) -> str | None:
    """Return the reason why this head is not to be screened; None if there is none."""
    weight = exact.linear.weight
    if exact.changes:
        return "an adapter changes the output head"
    if weight.device.type != "cpu":
        return "the device reads the exact head fast enough"
    if not has_fbgemm():
        return "this processor has no fast product of 8 bits"
    if weight.dtype != torch.bfloat16:
        return f"it holds {str(weight.dtype).removeprefix('torch.')}"
    if exact.linear.bias is not None or exact.softcap:
        return "the head is more than a product"
    if len(weight) < 64 * CANDIDATES:
        return f"a vocabulary of {len(weight)} tokens is read fast enough"
    return None


@torch.inference_mode()
def measure_head(
    exact: Head, screened: ScreenedHead, states: Sequence[Tensor], ids: Tensor
) -> HeadGate:
    """Measure a screened head against the exact one, and decide whether it is used.

    Args:
        exact: the model's own head.
        screened: the head to test.
        states: hidden states of a fixed text under each variant, (T, d) each.
        ids: (T,), the token ids that the states are to predict.
    """
    hidden, labels, rows = torch.cat(list(states)), ids.repeat(len(states)), len(states)
    kl = agree = loss = screened_loss = beyond = 0.0
    for some, targets in zip(torch.split(hidden, 16), torch.split(labels, 16), strict=True):
        true, approximate = (head(some).float() for head in (exact, screened))
        error = (true - approximate).abs_()
        beyond += float((error > screened.error_bound(approximate, some)).sum())
        true, approximate = (logits.log_softmax(-1) for logits in (true, approximate))
        kl += functional.kl_div(approximate, true, log_target=True, reduction="sum").item()
        agree += float((true.argmax(-1) == approximate.argmax(-1)).sum())
        loss += functional.nll_loss(true, targets, reduction="sum").item()
        screened_loss += functional.nll_loss(approximate, targets, reduction="sum").item()
    count = len(labels)
    mean_kl, top1, change = kl / count, agree / count, abs(screened_loss - loss) / count
    reason = "it is further off than a draw allows for" if beyond else ""
    if mean_kl > MAX_KL or top1 < 1 or change > MAX_LOSS_CHANGE:
        reason = "it changes what is likely"
    exact_s, screened_s = _times([exact, screened], hidden[:rows].contiguous())
    return HeadGate(
        used=not reason,
        reason=reason,
        candidates=CANDIDATES,
        positions=count,
        kl=mean_kl,
        top1=top1,
        loss_exact=loss / count,
        loss_screened=screened_loss / count,
        exact_s=exact_s,
        screened_s=screened_s,
        extra_bytes=0 if reason else screened.copy.nbytes,
    )


def _times(heads: Sequence[Head], states: Tensor) -> list[float]:
    """Return the seconds that each head takes: the fastest of five interleaved runs."""
    times: list[list[float]] = [[] for _ in heads]
    for _ in range(5):
        for head, seconds in zip(heads, times, strict=True):
            began = time.perf_counter()
            head(states)
            seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in times]
