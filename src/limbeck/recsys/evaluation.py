"""What a click network is worth: ranking, likelihood, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import evaluating
from limbeck.errors import ConfigError
from limbeck.fitting import calibration_error
from limbeck.fitting.plain import Plain
from limbeck.recsys.batches import batch_of
from limbeck.recsys.clicks import Clicks

BATCH = 4096


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Probability that a click has a higher score than no click; equal scores count one half.

    (mean rank of the clicks - (n1 + 1)/2) / n0, with n1 clicks and n0 others; NaN where one kind is missing.

    Args:
        score: any numbers that rank, [N].
        label: 0 or 1, [N].

    Example:
        >>> auc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
        0.875
    """
    clicked = np.asarray(label) > 0.5
    n1, n0 = int(clicked.sum()), int((~clicked).sum())
    if not n1 or not n0:
        return float("nan")
    return float((rankdata(np.asarray(score))[clicked].mean() - (n1 + 1) / 2) / n0)


def group_auc(score: ArrayLike, label: ArrayLike, group: ArrayLike) -> float:
    """Mean of the AUC of every group that has both labels, weighted by its size; NaN where none has.

    Args:
        score, label: as for `auc`, [N].
        group: whose event it is, [N].

    Example:
        >>> group_auc([0.1, 0.2, 0.9, 0.8, 0.5], [0, 1, 0, 1, 1], [1, 1, 2, 2, 3])
        0.5
    """
    order = np.argsort(group, kind="stable")
    scores, labels, groups = (np.asarray(one)[order] for one in (score, label, group))
    cuts = np.flatnonzero(np.diff(groups)) + 1
    each = [(auc(s, y), len(y)) for s, y in zip(np.split(scores, cuts), np.split(labels, cuts), strict=True)]
    known = np.array([pair for pair in each if pair[0] == pair[0]])
    return float(np.average(known[:, 0], weights=known[:, 1])) if len(known) else float("nan")


def calibrated(p: ArrayLike, kept: float) -> Any:
    """Probability of a click where negatives were kept with a rate w only: p / (p + (1 - p)/w).

    Args:
        p: what a network says that was trained on the thinned log, any shape.
        kept: w, the share of the negatives that it saw, above 0 and at most 1.

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326).

    Example:
        >>> float(calibrated(0.5, 0.1).round(4))
        0.0909
    """
    if not 0 < kept <= 1:
        raise ConfigError(f"negatives are kept with a rate above 0 and at most 1, got {kept}")
    shares = np.asarray(p, float)
    return shares / (shares + (1 - shares) / kept)


@dataclass(frozen=True)
class ClickJudgement(Plain):
    """A click network on events that it did not learn from.

    Args:
        auc: over all events.
        gauc: mean over the users with both labels, weighted by their events.
        loss: mean negative log-likelihood, nats.
        calibration_error: mean distance between probability and share of clicks, 15 bins.
        ratio: mean probability over the share of clicks.
        examples: how many events.
    """

    auc: float
    gauc: float
    loss: float
    calibration_error: float
    ratio: float
    examples: int

    def summary(self) -> str:
        """One line."""
        return (
            f"AUC {self.auc:.4f}, by user {self.gauc:.4f}, loss {self.loss:.4f} nats, calibration error "
            f"{self.calibration_error:.3f}, predicted over actual clicks {self.ratio:.2f}"
        )


def scores(network: nn.Module, clicks: Clicks, positions: Tensor) -> Tensor:
    """What a network says of the events at these positions: logits, float32 [n]."""
    length = int(network.length)  # type: ignore[arg-type]
    with evaluating(network):
        return torch.cat([network(batch_of(clicks, part, length)) for part in positions.split(BATCH)])


def judge(network: nn.Module, clicks: Clicks, positions: Tensor | None = None) -> ClickJudgement:
    """Judge a network on the test events of a log, or on those at some positions.

    Raises:
        ConfigError: all of them have one label.
    """
    chosen = clicks.test if positions is None else positions
    return judge_logits(scores(network, clicks, chosen), clicks, chosen)


def judge_logits(logits: Tensor, clicks: Clicks, positions: Tensor) -> ClickJudgement:
    """Judge the logits [n] that anything gives to the events at some positions [n].

    Raises:
        ConfigError: all of them have one label.
    """
    z, y = logits.detach().double().cpu(), clicks.label[positions].double()
    if not len(y) or y.min() == y.max():
        raise ConfigError(f"{clicks.name}: {len(y)} events to judge by need clicks and others")
    p, label = z.sigmoid().numpy(), y.numpy()
    return ClickJudgement(
        auc=auc(z.numpy(), label),
        gauc=group_auc(z.numpy(), label, clicks.user[positions].numpy()),
        loss=float(F.binary_cross_entropy_with_logits(z, y)),
        calibration_error=calibration_error(p, label),
        ratio=float(p.mean() / label.mean()),
        examples=len(y),
    )
