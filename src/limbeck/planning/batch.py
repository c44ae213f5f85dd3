"""Which batch size: how many steps and tokens each needs for a loss, and the one of least cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting import Fit
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws.batch import Batch, BatchLaw
from limbeck.planning.estimate import Ensemble, Estimate, Plan, Source, outlook, positive
from limbeck.runs.quantities import quantity, si

CAVEAT = "the learning rate must suit each batch size, and not decay"


@dataclass(frozen=True)
class BatchOption:
    """What one batch size needs.

    Args:
        batch: tokens per step.
        steps, tokens: until the loss.
        time, compute: the same as multiples of their least.
        at, curve: predicted loss along the way, steps and nats/token, [k] each.
    """

    batch: float
    steps: Estimate
    tokens: Estimate
    time: float
    compute: float
    at: Array
    curve: Array


@dataclass(frozen=True)
class BatchPlan(Plan):
    """Batch sizes for one model and one loss.

    Args:
        params, target_loss: the question.
        floor: lowest reachable loss.
        critical: critical batch at the loss, tokens.
        min_steps, min_tokens: least of either.
        best: batch of least cost: the critical one, or that of the prices.
        options: batch sizes side by side.
        level: nominal coverage.
        notes: reach and caveats, in words.
    """

    params: float
    target_loss: float
    floor: Estimate
    critical: Estimate
    min_steps: Estimate
    min_tokens: Estimate
    best: Estimate
    options: tuple[BatchOption, ...]
    level: float
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        lines = [f"loss {self.target_loss:.4g} with {quantity('params', self.params)} (floor {self.floor.value:.4g})"]
        lines += [
            f"  best batch      {self.best.words('batch_tokens', self.level)}",
            f"  critical batch  {self.critical.words('batch_tokens', self.level)}",
            f"  at least        {self.min_steps.words('step', self.level)}",
            f"  and             {self.min_tokens.words('tokens', self.level)}",
            "",
            f"{'batch':>10} {'steps':>10} {'tokens':>10} {'time':>7} {'compute':>8}",
        ]
        for o in self.options:
            counts = " ".join(f"{si(n):>10}" for n in (o.batch, o.steps.value, o.tokens.value))
            lines.append(f"{counts} {o.time:6.2f}× {o.compute:7.2f}×")
        return lines

    def plot(self) -> Any:
        """Draw the predicted loss of every batch size along the steps."""
        title = f"Beyond {si(self.critical.value)} tokens a batch saves few steps"
        lines = [{"x": o.at, "y": o.curve, "name": f"{si(o.batch)} tokens", "mode": "lines"} for o in self.options]
        return chart(title, "step", "loss, nats/token", lines, log="x")


def plan_batch(
    source: Source, params: float, target_loss: float, *, batches: Sequence[float] | None = None,
    step_price: float | None = None, token_price: float | None = None, level: float = 0.8,
) -> BatchPlan:  # fmt: skip
    """Return what batch sizes need to reach a loss, and the one of least cost.

    Args:
        source: a fit of `batch`, or published constants.
        params: size of the model.
        target_loss: nats/token.
        batches: tokens per step to compare; a quarter to four times the critical batch by default.
        step_price, token_price: cost = step_price · steps + token_price · tokens; without prices the best batch is the
            critical one, where time and compute both are twice their least.
        level: nominal coverage.

    Raises:
        PlanningError: a loss at or below the floor, a price or a size that is not positive, or runs of one batch size
            or of one other model size.

    Source: Unraveling the Mystery of Scaling Laws: Part I (Su, Tian, Shen, Cai, 2024, arXiv 2403.06563).

    Example:
        >>> from limbeck.laws import KAPLAN_2020_BATCH
        >>> plan = plan_batch(KAPLAN_2020_BATCH, 1e9, 2.6)
        >>> f"{plan.critical.value:.2g}", round(plan.options[2].time, 9)
        ('2.1e+06', 2.0)
    """
    positive(params=params, step_price=step_price, token_price=token_price)
    if (step_price is None) != (token_price is None) or min(batches or [1.0]) <= 0:
        raise PlanningError("give both prices or none, and batch sizes above 0.")
    rows = Ensemble.of(source, *Batch.columns)
    if isinstance(source, Fit):
        known, sizes = source.identifiability.identified, np.unique(source.data.columns["params"])
        if not known["B_star"]:
            raise PlanningError("the fitted runs do not identify B_star: train one size with several batch sizes.")
        if not known["N_c"] and params not in sizes:
            raise PlanningError(f"the fitted runs have one size ({si(sizes[0])}): they say nothing about {si(params)}.")
    law = BatchLaw({name: value[:, 0] for name, value in rows.parameters.items()})
    floor, critical = law.floor(params), law.critical_batch(target_loss)
    if not target_loss > floor[0]:
        raise PlanningError(
            f"no batch and no number of steps reach {target_loss:g} with {si(params)} parameters: the floor is "
            f"{floor[0]:.4g}. Ask for more, or for a larger model."
        )
    best = law.best_batch(target_loss, step_price, token_price) if step_price and token_price else critical
    options = []
    for batch in batches or critical[0] * np.array([0.25, 0.5, 1.0, 2.0, 4.0]):
        steps = law.steps(target_loss, params, batch)
        at = np.geomspace(steps[0] / 100, steps[0], 50)
        curve = source.value(params=params, batch_tokens=batch, step=at)
        time, compute = float(1 + critical[0] / batch), float(1 + batch / critical[0])
        count, data = Estimate.each(level, steps, steps * batch)
        options.append(BatchOption(float(batch), count, data, time, compute, at, curve))
    there = law.steps(target_loss, params, best)[0]
    reach = outlook(source, level, params=params, batch_tokens=float(best[0]), step=float(there))
    least = law.min_steps(target_loss, params), law.min_tokens(target_loss, params)
    lowest, turn, fewest, data, choice = Estimate.each(level, floor, critical, *least, best)
    asked, notes = (float(params), float(target_loss)), (reach.note, CAVEAT)
    return BatchPlan(*asked, lowest, turn, fewest, data, choice, tuple(options), level, notes)
