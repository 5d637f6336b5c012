"""Hidden states → logits: the output head, exact, or screened and refined.

A small model's head is most of the bytes that a step reads. A copy of it in few bits finds the
candidates, and the exact rows of those decide among them: what is likely is exact, and only the
tail keeps the logits of the copy. Whether that holds is measured at load, on fixed text. It pays
on a CPU: by a copy in 4 bits where there is their kernel, else in 8. The times are measured for
show and decide nothing, for on a busy machine they would decide by chance, and another head is
another text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.engine.dense import WideHead
from models.engine.eight_bit import EightBit
from models.engine.four_bit import beside, multiplies_4_bits, pack, quantised
from models.engine.sampling import top_ids
from models.types import HeadGate

Head = Callable[[Tensor], Tensor]
"""(B, d) hidden states → (B, V) logits, which stand until the head is called again."""

CANDIDATES = 256
MAX_KL = 0.02
"""Nats, mean over the positions of the fixed text."""
MAX_LOSS = 0.02
"""Nats a token that the loss may differ by."""
_SLICE = 8192
"""Rows of the head that are quantised at a time: three times as fast as all at once."""
_PART = 4 * _SLICE
"""Rows of the head in one product: what it makes, and what it takes to make, stays small."""
_ROWS = 4
"""Rows of a step that are refined at a time, for the same reason."""


class ExactHead:
    """The model's own head, with its soft cap where it has one."""

    def __init__(self, model: Any) -> None:
        """Take a causal language model."""
        self.linear = model.get_output_embeddings()
        self._cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits, in the type of the states."""
        return self._capped(self.linear(hidden))

    def each(self, hidden: Tensor) -> Tensor:
        """Return the logits of each row as they would be if it were alone."""
        if isinstance(self.linear, WideHead):
            return self(hidden)
        return torch.cat([self(row) for row in torch.split(hidden, 1)])

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
    """A head whose copy in few bits finds the candidates that its exact rows decide among."""

    def __init__(self, weight: Tensor) -> None:
        """Take the exact head, (V, d), and make the copy."""
        self.weight = weight
        self.bits = 4 if multiplies_4_bits() else 8
        made = _four_bit if self.bits == 4 else EightBit
        self.parts = nn.ModuleList(made(part) for part in torch.split(weight, _PART))
        pack(self.parts)
        self._logits = weight.new_empty(0, len(weight))
        """Kept, for what is given back and had again at each step ends up in pieces."""

    @property
    def nbytes(self) -> int:
        """What the copy holds."""
        copies = [part.nbytes for part in self.parts if isinstance(part, EightBit)]
        return sum(copies) + sum(buffer.nbytes for buffer in self.parts.buffers())

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits, exact for the candidates."""
        if len(hidden) > len(self._logits) or hidden.dtype != self._logits.dtype:
            self._logits = hidden.new_empty(len(hidden), len(self.weight))
        logits = self._logits[: len(hidden)]
        for columns, part in zip(torch.split(logits, _PART, 1), self.parts, strict=True):
            columns.copy_(part(hidden))
        for few, states in zip(torch.split(logits, _ROWS), torch.split(hidden, _ROWS), strict=True):
            found = self._candidates(few)
            few.scatter_(1, found, self._exact(found, states))
        return logits

    def _candidates(self, logits: Tensor) -> Tensor:
        if logits.dtype == torch.float32:
            return top_ids(logits, CANDIDATES)  # in a third of the time
        return logits.topk(CANDIDATES, sorted=False).indices

    def _exact(self, found: Tensor, states: Tensor) -> Tensor:
        """Return the exact logits of each row's candidates: (B, K), (B, d) → (B, K)."""
        rows = self.weight[found]
        if rows.dtype == states.dtype:
            return torch.bmm(rows, states[:, :, None])[:, :, 0]
        # In float32 a product of matrices adds in an order that depends on how many rows there are.
        return (rows * states[:, None]).sum(-1)


def _four_bit(rows: Tensor) -> nn.Module:
    copy: nn.Module = beside([quantised(some) for some in torch.split(rows, _SLICE)])
    copy(rows.new_zeros(1, rows.shape[1]))  # the kernel's own form is made now
    return copy


@torch.inference_mode()
def choose_head(
    model: Any, states: list[Tensor], labels: Tensor, made: ScreenedHead | None = None
) -> tuple[Head, HeadGate]:
    """Return the head that steps are to use, and what it was chosen by.

    Args:
        model: a causal language model.
        states: hidden states of a fixed text under each variant, (T, d) each.
        labels: the ids that they are to predict, (T,).
        made: another model's screened head, used again where its weights are the same.
    """
    exact = ExactHead(model)
    if reason := _unfit(exact):
        return exact, HeadGate(used=False, reason=reason)
    weight = exact.linear.weight
    same = made and made.weight.data_ptr() == weight.data_ptr()
    screened = made if made and same else ScreenedHead(weight)
    gate = _gate(exact, screened, torch.cat(states), labels.repeat(len(states)), len(states))
    return (screened if gate.used else exact), gate


def _unfit(exact: ExactHead) -> str | None:
    """Return why this head is not worth a copy."""
    weight = exact.linear.weight
    if weight.device.type != "cpu":
        return "the device reads the exact head fast enough"
    if weight.dtype != torch.bfloat16 or not (multiplies_4_bits() or EightBit.multiplies()):
        return "this processor has no fast product of few bits"
    if exact.linear.bias is not None or exact._cap:
        return "the head is more than a product"
    if weight.shape[0] < 16 * CANDIDATES or weight.shape[0] % _SLICE % 32 or weight.shape[1] % 64:
        return f"a head of {weight.shape[0]} × {weight.shape[1]} does not fit the kernel"
    return None


def _gate(
    exact: Head, screened: ScreenedHead, hidden: Tensor, labels: Tensor, rows: int
) -> HeadGate:
    kl = agree = loss = off = 0.0
    for states, ids in zip(torch.split(hidden, 16), torch.split(labels, 16), strict=True):
        true, found = (head(states).float().log_softmax(-1) for head in (exact, screened))
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
    fails = found_kl > MAX_KL or found_top1 < 1 or change > MAX_LOSS
    reason = "it changes what is likely" if fails else ""
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
        extra_bytes=0 if reason else screened.nbytes,
        bits=screened.bits,
    )
