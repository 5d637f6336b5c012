"""Hidden states → logits: the output head, exact, or screened and refined.

A small model's head is most of the bytes that a step reads. A copy of it in 8 bits finds the
candidates, and the exact rows of those decide among them: what is likely is exact, and only the
tail keeps the logits of the copy. A draw may fall into the tail, so that for draws more of it is
exact. Whether that holds is measured at load, on fixed text. It pays on a CPU. The times are
measured for show and decide nothing, for on a busy machine they would decide by chance, and another
head is another text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from models.engine.layers.packed_matmul import has_fbgemm
from models.engine.layers.q8_0 import Q8Matrix, row_chunks
from models.engine.sampling.int8_matmul import Int8Matrix
from models.engine.sampling.inverse_cdf import rejection_sample
from models.engine.sampling.logits import top_ids
from models.model_info import HeadGate

CANDIDATES = 64
"""Of a row whose likeliest token is taken."""
CANDIDATES_OF_DRAWS = 256
"""Of a row whose token is drawn: its likeliest 64 may hold no more than 0.6 of the probability."""
_PART = 2048
"""Rows of the head that are multiplied at a time where a draw needs all."""
MAX_KL = 0.02
"""Nats, mean over the positions of the fixed text."""
MAX_LOSS = 0.02
"""Nats a token that the loss may differ by."""


class Head(Protocol):
    """Hidden states → logits, which stand until the head is called again."""

    def __call__(self, hidden: Tensor, drawn: Sequence[int] = ()) -> Tensor:
        """Return the logits of each state: (B, d) → (B, V).

        Args:
            hidden: the states.
            drawn: the numbers of those whose token is drawn: all of what is likely counts.
        """
        ...


class ExactHead:
    """The model's own head, with its soft cap where it has one."""

    def __init__(self, model: Any) -> None:
        """Take a causal language model."""
        self.linear = model.get_output_embeddings()
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def __call__(self, hidden: Tensor, drawn: Sequence[int] = ()) -> Tensor:
        """Return the logits, in the type of the states; all are exact, for draws or not."""
        return self._capped(self.linear(hidden))

    def at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the logit of one token for each of (N, d) hidden states, in float32; (N,).

        In bf16, logits about 20 are an eighth apart, and half of what is near is equal.
        """
        logits = (hidden.float() * self.linear.weight[targets].float()).sum(-1)
        if self.linear.bias is not None:
            logits = logits + self.linear.bias[targets].float()
        return self._capped(logits)

    def _capped(self, logits: Tensor) -> Tensor:
        return torch.tanh(logits / self._cap) * self._cap if self._cap else logits


class ScreenedHead:
    """A head whose copy in 8 bits finds the candidates that its exact rows decide among."""

    def __init__(self, weight: Tensor | Q8Matrix) -> None:
        """Take the exact head, (V, d), and make the copy."""
        self.weight = weight
        self.copy = Int8Matrix(weight)
        self._logits = torch.empty(0, len(weight))
        """Kept, for what is given back and had again at each step ends up in pieces."""

    def __call__(self, hidden: Tensor, drawn: Sequence[int] = ()) -> Tensor:
        """Return the logits in float32, exact for the candidates."""
        if len(hidden) > len(self._logits):
            self._logits = torch.empty(len(hidden), len(self.weight))
        logits = self._logits[: len(hidden)]
        self.copy.multiply(hidden, logits)
        if not drawn:
            self._refine(logits, hidden, CANDIDATES)
        for row in range(len(hidden) if drawn else 0):
            count = CANDIDATES_OF_DRAWS if row in drawn else CANDIDATES
            self._refine(logits[row, None], hidden[row, None], count)
        return logits

    def draw(self, logits: Tensor, state: Tensor, uniform: float, temperature: float) -> int:
        """Draw from all tokens as the exact head would; makes the logit of what is drawn exact.

        Unless by a bad chance, see `Int8Matrix.off`, a token is drawn as often.

        Args:
            logits: (1, V), as they were found for the state.
            state: (1, d).
            uniform: in [0, 1); all that is drawn follows from it.
            temperature: above 0.
        """
        most = logits + self.off(logits, state)
        self._refine(most, state, CANDIDATES_OF_DRAWS)

        def logit(id: int) -> float:
            return self._exact(state, torch.tensor([[id]])).item()

        def logits_of_all() -> Tensor:  # of this row alone: the same in any company
            parts = row_chunks(self.weight, _PART)
            found = [functional.linear(state.float(), part.float()) for part in parts]
            return torch.cat(found, 1).to(state.dtype).float()

        id = rejection_sample(most, logit, logits_of_all, uniform, temperature)
        logits[0, id] = logit(id)
        return id

    def off(self, logits: Tensor, states: Tensor) -> Tensor:
        """Return how far logits may be off the exact head's: (B, V), of (B, d) states."""
        rounding = torch.finfo(states.dtype).eps
        return logits.abs().mul_(rounding).add_(self.copy.off(states)).mul_(1 + rounding)

    def _refine(self, logits: Tensor, states: Tensor, count: int) -> None:
        """Replace each row's `count` largest logits by exact ones: (B, V), of (B, d) states."""
        found = top_ids(logits, count)
        logits.scatter_(1, found, self._exact(states, found))

    def _exact(self, states: Tensor, ids: Tensor) -> Tensor:
        """Return the logits of some tokens of each row: (B, d), (B, K) → (B, K).

        Summed number by number, for a product of matrices adds in an order that depends on how many
        rows there are; and rounded as the exact head rounds.
        """
        exact = (self.weight[ids].float() * states.float()[:, None]).sum(-1)
        return exact.to(states.dtype).float()


@torch.inference_mode()
def choose_head(
    model: Any, states: list[Tensor], labels: Tensor, made: Sequence[ScreenedHead] = ()
) -> tuple[Head, HeadGate]:
    """Return the head that steps are to use, and what it was chosen by.

    Args:
        model: a causal language model.
        states: hidden states of a fixed text under each variant, (T, d) each.
        labels: the ids that they are to predict, (T,).
        made: other models' screened heads, used again where the weights are the same.
    """
    exact = ExactHead(model)
    if reason := _unfit(exact):
        return exact, HeadGate(used=False, reason=reason)
    weight = exact.linear.weight
    same = (head for head in made if head.weight.data_ptr() == weight.data_ptr())
    screened = next(same, None) or ScreenedHead(weight)
    gate = _gate(exact, screened, torch.cat(states), labels.repeat(len(states)), len(states))
    return (screened if gate.used else exact), gate


def _unfit(exact: ExactHead) -> str | None:
    """Return why this head is not worth a copy."""
    weight = exact.linear.weight
    if weight.device.type != "cpu":
        return "the device reads the exact head fast enough"
    if not has_fbgemm():
        return "this processor has no fast product of 8 bits"
    if weight.dtype != torch.bfloat16:
        return f"it holds {str(weight.dtype).removeprefix('torch.')}"
    if exact.linear.bias is not None or exact._cap:
        return "the head is more than a product"
    if len(weight) < 64 * CANDIDATES:
        return f"a vocabulary of {len(weight)} tokens is read fast enough"
    return None


def _gate(
    exact: Head, screened: ScreenedHead, hidden: Tensor, labels: Tensor, rows: int
) -> HeadGate:
    kl = agree = loss = off = beyond = 0.0
    for states, ids in zip(torch.split(hidden, 16), torch.split(labels, 16), strict=True):
        true, found = (head(states).float() for head in (exact, screened))
        beyond += float(((true - found).abs_() > screened.off(found, states)).sum())
        true, found = (logits.log_softmax(-1) for logits in (true, found))
        kl += functional.kl_div(found, true, log_target=True, reduction="sum").item()
        agree += float((true.argmax(-1) == found.argmax(-1)).sum())
        loss += functional.nll_loss(true, ids, reduction="sum").item()
        off += functional.nll_loss(found, ids, reduction="sum").item()
    count = len(labels)
    few = hidden[:rows].contiguous()
    times: dict[Head, list[float]] = {exact: [], screened: []}
    for _ in range(5):  # in turn, so that a machine whose speed drifts favours neither
        for head, seconds in times.items():
            began = time.perf_counter()
            head(few)
            seconds.append(time.perf_counter() - began)
    exact_s, screened_s = (min(seconds) for seconds in times.values())  # the least disturbed
    found_kl, found_top1, change = kl / count, agree / count, abs(off - loss) / count
    reason = "it is further off than a draw allows for" if beyond else ""
    if found_kl > MAX_KL or found_top1 < 1 or change > MAX_LOSS:
        reason = "it changes what is likely"
    return HeadGate(
        used=not reason,
        reason=reason,
        candidates=CANDIDATES,
        positions=count,
        kl=found_kl,
        top1=found_top1,
        loss_exact=loss / count,
        loss_screened=off / count,
        exact_s=exact_s,
        screened_s=screened_s,
        extra_bytes=0 if reason else screened.copy.nbytes,
    )
