"""The training loop: tokenized rows → the weights of an adapter.

The base is frozen, and its linear layers were rounded to NF4 and back: the adapter is trained on
the weights that it will be used with (QLoRA, 2305.14314), at the speed of unquantised products.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.errors import WeightsError
from models.tuning.loss import token_losses
from models.tuning.progress import Step
from models.tuning.recipe import Recipe, Schedule
from models.tuning.saving import load_checkpoint, run_identity, save_checkpoint


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One training row as token ids."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    """Ends with the end-of-text token, so that the model learns to end."""

    def __len__(self) -> int:
        """Return the number of tokens of the row."""
        return len(self.prompt) + len(self.completion)


R = TypeVar("R", bound=Sized)
"""A row, or a pair of rows; its length is that of its tokens."""


def batches(rows: Sequence[R], batch_rows: int, draw: random.Random) -> list[list[R]]:
    """Divide rows into batches of similar length, in random order.

    Rows are shuffled, then sorted by length within windows of 40 batches: there is little padding,
    and each row is batched with different rows in each epoch.
    """
    rows = draw.sample(rows, len(rows))
    window = 40 * batch_rows
    all_batches = []
    for start in range(0, len(rows), window):
        near = sorted(rows[start : start + window], key=len)
        all_batches += [near[n : n + batch_rows] for n in range(0, len(near), batch_rows)]
    draw.shuffle(all_batches)
    return all_batches


def batch_loss(
    model: nn.Module, batch: Sequence[TokenizedExample], prompt_weight: float = 0.0
) -> tuple[Tensor, float]:
    """Return the loss of a batch.

    Args:
        model: the base with its adapter.
        batch: the rows.
        prompt_weight: weight of a prompt's tokens; that of a completion's is 1.

    Returns:
        The weighted sum of the losses in nats, and the sum of the weights.
    """
    losses, rows = batch_losses(model, batch, with_prompts=prompt_weight > 0)
    shares = torch.ones(len(losses))
    if prompt_weight:
        within = torch.cat([torch.arange(1, len(row)) for row in batch])
        starts = torch.tensor([len(row.prompt) for row in batch])[rows]
        shares[within < starts] = prompt_weight
    return (losses * shares.to(losses.device)).sum(), float(shares.sum())


def batch_losses(
    model: nn.Module, batch: Sequence[TokenizedExample], with_prompts: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the losses of a batch's tokens, computed in the base's dtype and on its device.

    Rows are padded on the right. Attention is causal, so padding needs no mask.

    Args:
        model: the base with its adapter.
        batch: the rows.
        with_prompts: whether the tokens of prompts have a loss too.

    Returns:
        The losses in nats, (N,) float32, in the order of the rows, and the index of each one's
        row. The first token of a row has none, since nothing stands before it.
    """
    base: Any = model.get_base_model()  # type: ignore[operator]
    weight = base.lm_head.weight
    length = max(len(row) for row in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.int64)
    at_row: list[int] = []
    at_token: list[int] = []
    targets: list[int] = []
    for n, row in enumerate(batch):
        tokens = row.prompt + row.completion
        ids[n, : len(row)] = torch.tensor(tokens)
        first = 1 if with_prompts else max(1, len(row.prompt))
        at_row += [n] * (len(row) - first)
        at_token += range(first - 1, len(row) - 1)
        targets += tokens[first:]
    with torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype == torch.bfloat16):
        hidden = base.model(input_ids=ids.to(weight.device), use_cache=False).last_hidden_state
        rows = torch.tensor(at_row)
        supervised = hidden[rows, torch.tensor(at_token)].to(weight.dtype)
        losses = token_losses(supervised, weight, torch.tensor(targets, device=weight.device))
    return losses, rows


@torch.no_grad()
def mean_loss(model: nn.Module, rows: list[TokenizedExample], batch_rows: int) -> float:
    """Return the mean loss over all supervised tokens of the rows, in nats per token."""
    model.eval()
    total, count = 0.0, 0.0
    by_length = sorted(rows, key=len)
    for start in range(0, len(rows), batch_rows):
        loss, tokens = batch_loss(model, by_length[start : start + batch_rows])
        total, count = total + float(loss), count + tokens
    model.train()
    return total / count


def train(
    model: nn.Module, rows: list[TokenizedExample], recipe: Recipe, out: Path
) -> Iterator[Step]:
    """Train the adapter of `model` in place, yielding after every step; see `run_steps`."""
    training = recipe.training
    return run_steps(
        model,
        epochs(rows, training, recipe.seed),
        training,
        run_identity(recipe, rows),
        out / "checkpoint.pt",
        lambda batch: batch_loss(model, batch, training.prompt_weight),
    )


def epochs(rows: Sequence[R], schedule: Schedule, seed: int) -> list[list[R]]:
    """Return the batches of all steps, in another order in each epoch."""
    return [
        batch
        for epoch in range(schedule.epochs)
        for batch in batches(rows, schedule.batch_rows, random.Random(f"{seed} {epoch}"))
    ][: schedule.max_steps or None]


def run_steps(
    model: nn.Module,
    steps: Sequence[Sequence[R]],
    schedule: Schedule,
    identity: str,
    path: Path,
    loss_of: Callable[[Sequence[R]], tuple[Tensor, float]],
    ends_before: Callable[[int], bool] = lambda step: False,
) -> Iterator[Step]:
    """Take the optimizer's steps, yielding after every one.

    An interrupted run resumes from its last checkpoint, with the same result. The steps in the
    checkpoint are yielded again first, so that the loss curve is always complete.

    Args:
        model: the base with its adapter.
        steps: the batch of each step.
        schedule: the hyperparameters.
        identity: what the checkpoint must be of (`run_identity`).
        path: the checkpoint.
        loss_of: the summed loss of a batch, and what it is divided by.
        ends_before: whether training ends before a step, numbered from 0, is taken.

    Raises:
        WeightsError: the loss is not finite (the last checkpoint stays), or the checkpoint is of
            another recipe or other rows.
    """
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(weights.values(), weight_decay=0.0, fused=True)
    history = [Step(*values) for values in load_checkpoint(weights, optimizer, identity, path)]
    yield from history
    model.train()
    for step in range(len(history), len(steps)):
        if ends_before(step):
            return
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * _rate(step, len(steps), schedule.warmup)
        loss, count = loss_of(steps[step])
        step_loss = loss.item() / count
        if not math.isfinite(step_loss):
            raise WeightsError(
                f"Step {step + 1}: the loss is {step_loss}. The last checkpoint, {path}, stays; "
                "lower learning_rate in the recipe."
            )
        (loss / count).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights.values(), schedule.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens = max(map(len, steps[step])) * len(steps[step])
        seconds = time.monotonic() - began
        history.append(Step(step + 1, len(steps), step_loss, tokens, seconds))
        if (step + 1) % schedule.save_every == 0 or step + 1 == len(steps):
            save_checkpoint(weights, optimizer, identity, [astuple(s) for s in history], path)
        yield history[-1]


def _rate(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the learning rate at a step: a linear warm-up, then a cosine to 0."""
    climb = max(1, round(warmup * steps))
    if step < climb:
        return (step + 1) / climb
    return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, steps - climb)))
