"""Task accuracy and task error from a loss: the second step of a two-step forecast."""

from __future__ import annotations

from typing import Any

import numpy as np

from limbeck.fitting import Parameter
from limbeck.laws.law import LINEAR, SOURCES, Law
from limbeck.laws.overtraining import GADRE

BHAGIA = SOURCES["bhagia-2024"]


class FromLoss(Law):
    """A law that reads a loss."""

    columns = ("loss",)
    preferred_loss = LINEAR

    def size(self, x: Any) -> Any:
        """A lower loss is a larger run."""
        return 1.0 / x.loss


class DownstreamError(FromLoss):
    """Mean task error from loss: Err = epsilon - k exp(-gamma L) (eq. 5), L in nats/token: a power law in perplexity.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540).

    Example:
        >>> float(DownstreamError()({"epsilon": 0.85, "k": 2.0, "gamma": 0.7}, loss=2.5).round(4))
        0.5025
    """

    name = "downstream-error"
    source = GADRE
    target = "error"
    equation = "epsilon - k exp(-gamma loss)"
    linear = ("epsilon", "k")
    parameters = (
        Parameter("epsilon", "error of a model that knows nothing", log=True),
        Parameter("k", "size of the gain", log=True),
        Parameter("gamma", "rate per nat", start=(0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5), lower=0.02, upper=10.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Epsilon - k exp(-gamma L)."""
        return p.epsilon - p.k * np.exp(-p.gamma * x.loss)


class TaskAccuracy(FromLoss):
    """Accuracy on a task falls along a sigmoid of the loss: y = floor + (ceiling - floor) / (1 + exp(k (L - L0))).

    L is any loss that the model's scale moves: the task's own bits per byte of the right answer, or a cross-entropy on
    held-out text. The ceiling is seldom in sight of small models; `fixed={"ceiling": 1.0}` puts it where a perfect
    model is.

    Source: Establishing Task Scaling Laws via Compute-Efficient Model Ladders (Bhagia et al., 2024, arXiv 2412.04403),
    step 2, with the sign of k turned.

    Example:
        >>> law = TaskAccuracy()
        >>> float(law({"floor": 0.25, "ceiling": 1.0, "k": 8.0, "L0": 0.8}, loss=0.8))
        0.625
    """

    name = "task-accuracy"
    source = BHAGIA
    target = "accuracy"
    equation = "floor + (ceiling - floor) / (1 + exp(k (loss - L0)))"
    linear = ("floor", "ceiling")
    parameters = (
        Parameter("floor", "accuracy of a model that knows nothing", lower=0.0, upper=1.0),
        Parameter("ceiling", "accuracy of the best model", lower=0.0, upper=1.0),
        Parameter("k", "steepness per unit of loss", (3.0, 8.0, 20.0, 60.0), 0.3, 100.0, True, {"loss": -1.0}),
        Parameter("L0", "loss at half-way", (0.6, 0.8, 0.95, 1.1), 0.1, 3.0, True, {"loss": 1.0}),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Floor + (ceiling - floor) / (1 + exp(k (L - L0)))."""
        return p.floor + (p.ceiling - p.floor) / (1 + np.exp(p.k * (x.loss - p.L0)))
