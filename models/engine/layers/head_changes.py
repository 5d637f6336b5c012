"""What adapters change in the output head: every weight, a low-rank update, or some tokens' rows.

A head is computed outside of the layers, for the states of many rows at once. Each state therefore
carries the scales of the adapters that change the head, in columns after its own (see
`LanguageModel.hidden_states`). With scale 0, the base's, a logit stays the same to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class HeadChange(nn.Module):
    """One adapter's change of the output head's logits, before they are capped."""

    def __init__(self, adapter: int) -> None:
        """Note the number of the adapter, from 1."""
        super().__init__()
        self.adapter = adapter

    def changed(self, logits: Tensor, states: Tensor, scales: Tensor) -> Tensor:
        """Return the logits with the change: (…, V), for (…, d) states and (…, 1) scales."""
        raise NotImplementedError

    def changed_at(self, logits: Tensor, states: Tensor, ids: Tensor, scales: Tensor) -> Tensor:
        """Return the changed logit of one token for each state.

        Args:
            logits: (N,) float32.
            states: (N, d) float32.
            ids: (N,), the tokens.
            scales: (N,) float32.
        """
        raise NotImplementedError


class TunedHead(HeadChange):
    """A head that an adapter brings whole."""

    def __init__(self, adapter: int, linear: Any) -> None:
        """Hold the adapter's head, a linear layer that computes in the states' dtype."""
        super().__init__(adapter)
        self.linear = linear

    def changed(self, logits: Tensor, states: Tensor, scales: Tensor) -> Tensor:
        """Return the logits with the change: (…, V)."""
        return torch.lerp(logits, self.linear(states).to(logits.dtype), scales.to(logits.dtype))

    def changed_at(self, logits: Tensor, states: Tensor, ids: Tensor, scales: Tensor) -> Tensor:
        """Return the changed logit of one token for each state: (N,)."""
        tuned = (states * self.linear.weight[ids].float()).sum(-1)
        if self.linear.bias is not None:
            tuned = tuned + self.linear.bias[ids].float()
        return torch.lerp(logits, tuned, scales)


class LoraHead(HeadChange):
    """A low-rank update of the head."""

    a: Tensor
    b: Tensor

    def __init__(self, adapter: int, a: Tensor, b: Tensor) -> None:
        """Hold (r, d) and (V, r), with the scaling multiplied in."""
        super().__init__(adapter)
        self.register_buffer("a", a, persistent=False)
        self.register_buffer("b", b, persistent=False)

    def changed(self, logits: Tensor, states: Tensor, scales: Tensor) -> Tensor:
        """Return the logits with the change: (…, V)."""
        inner = (states @ self.a.T) * scales.to(states.dtype)
        return logits + (inner @ self.b.T).to(logits.dtype)

    def changed_at(self, logits: Tensor, states: Tensor, ids: Tensor, scales: Tensor) -> Tensor:
        """Return the changed logit of one token for each state: (N,)."""
        inner = (states @ self.a.float().T) * self.b[ids].float()
        return logits + scales * inner.sum(-1)


class TunedHeadRows(HeadChange):
    """Trained rows of some tokens, which replace the head's."""

    ids: Tensor
    rows: Tensor
    index: Tensor
    """(V,): the row of each token; −1 for a token that keeps the base's."""

    def __init__(self, adapter: int, ids: Tensor, rows: Tensor, vocabulary: int) -> None:
        """Hold the (n,) ids and their (n, d) rows."""
        super().__init__(adapter)
        index = torch.full((vocabulary,), -1, device=ids.device)
        index[ids] = torch.arange(len(ids), device=ids.device)
        for name, tensor in (("ids", ids), ("rows", rows), ("index", index)):
            self.register_buffer(name, tensor, persistent=False)

    def changed(self, logits: Tensor, states: Tensor, scales: Tensor) -> Tensor:
        """Return the logits with the change: (…, V)."""
        # Summed element by element, in float32: the same to the bit in any batch.
        tuned = torch.stack([(states.float() * row.float()).sum(-1) for row in self.rows], -1)
        base = logits[..., self.ids]
        mixed = torch.lerp(base, tuned.to(states.dtype).to(base.dtype), scales.to(base.dtype))
        return logits.index_copy(-1, self.ids, mixed)

    def changed_at(self, logits: Tensor, states: Tensor, ids: Tensor, scales: Tensor) -> Tensor:
        """Return the changed logit of one token for each state: (N,)."""
        rows = self.index[ids]
        tuned = (states * self.rows[rows.clamp(min=0)].float()).sum(-1)
        return torch.where(rows >= 0, torch.lerp(logits, tuned, scales), logits)
