"""What a click network reads: what a user did before, and what is offered now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.recsys.clicks import Clicks


class ClickBatch(NamedTuple):
    """Offers to users, and what came before.

    Args:
        history: codes of the events before, the oldest first, int64 [B, L, F]; 0 where there were fewer.
        history_time: seconds, int64 [B, L].
        valid: which of them there were, bool [B, L].
        candidate: codes of what is offered, int64 [B, F] with action 0; or [B, C, F], several at once.
        time: of the offer, seconds, int64 [B].
        profile: codes of the user, int64 [B, P].
        dense: numbers beside the codes, float32 [B, K].
        label: whether it was clicked, float32 [B].
        user: number of the user, int64 [B].
    """

    history: Tensor
    history_time: Tensor
    valid: Tensor
    candidate: Tensor
    time: Tensor
    profile: Tensor
    dense: Tensor
    label: Tensor
    user: Tensor


def batch_of(clicks: Clicks, positions: Tensor, length: int) -> ClickBatch:
    """The offers at some positions of a log, each with the `length` events of the same user before it.

    Example:
        >>> from limbeck.recsys.clicks import synthetic
        >>> batch = batch_of(synthetic(users=3, events=5), torch.tensor([1, 4]), 3)
        >>> batch.history.shape, batch.valid.tolist()
        (torch.Size([2, 3, 3]), [[False, False, True], [True, True, True]])
    """
    place = positions[:, None] + torch.arange(-length, 0)
    valid = place >= clicks.first[positions][:, None]
    place = place.clamp(min=0)
    candidate = clicks.event[positions].clone()
    candidate[:, -1] = 0
    return ClickBatch(
        clicks.event[place] * valid[..., None], clicks.time[place] * valid, valid, candidate, clicks.time[positions],
        clicks.profile[positions], clicks.dense[positions], clicks.label[positions], clicks.user[positions],
    )  # fmt: skip


def reading(clicks: Clicks, positions: Tensor, length: int, size: int, seed: int) -> Callable[[int], ClickBatch]:
    """Batches as a function of the step: every epoch reads all positions once, in an order of its own.

    Args:
        clicks: the log.
        positions: to be read.
        length: of a history.
        size: of a batch; what does not fill one waits for the next epoch.
        seed: of the orders.

    Raises:
        ConfigError: fewer positions than one batch.
    """
    if size > len(positions):
        raise ConfigError(f"{clicks.name}: a batch of {size} is larger than the {len(positions)} events to learn from")

    def batch(step: int) -> ClickBatch:
        epoch, place = divmod(step, len(positions) // size)
        order = np.random.default_rng([seed, epoch]).permutation(len(positions))
        return batch_of(clicks, positions[torch.from_numpy(order[place * size : (place + 1) * size])], length)

    return batch
