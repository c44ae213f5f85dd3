"""How large a model, on how many tokens: for a training budget, or for a target loss and a life of inference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import PlanningError
from limbeck.fitting.model import Array
from limbeck.laws import Chinchilla, ComputeFrontier, Overtraining, Supervised
from limbeck.planning._search import minimise, root
from limbeck.planning.estimate import Ensemble, Estimate, Plan, Source, check_varied, outlook, positive
from limbeck.runs.quantities import scientific, si

SMALLEST, LARGEST = 1e4, 1e16
"""Range of sizes that a search looks at, in parameters; and of tokens."""


@dataclass(frozen=True)
class ComputePlan(Plan):
    """The best use of a training budget, C = 6 N D.

    Args:
        flops: the budget, FLOP.
        params, tokens, tokens_per_param: the optimum.
        loss: of one run there, nats/token, run-to-run noise included.
        level: nominal coverage of all intervals.
        extrapolation: budget divided by the compute of the largest run; None for published constants.
        notes: reach and caveats, in words.
    """

    flops: float
    params: Estimate
    tokens: Estimate
    tokens_per_param: Estimate
    loss: Estimate
    level: float
    extrapolation: float | None
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        return [
            f"compute-optimal at {scientific(self.flops)} FLOP",
            f"  size    {self.params.words('params', self.level)}",
            f"  data    {self.tokens.words('tokens', self.level)}",
            f"  ratio   {self.tokens_per_param.words('', self.level)} tokens per parameter",
            f"  loss    {self.loss.words('loss', self.level)}",
        ]


def compute_optimal(source: Source, flops: float, *, level: float = 0.8) -> ComputePlan:
    """Return the size and the data that give the least loss for C = 6 N D FLOP.

    The optimum is in closed form for `chinchilla`, `overtraining` and `supervised`, and searched for in every other law
    of params and tokens.

    Args:
        source: a fit, or published constants.
        flops: training budget, FLOP.
        level: nominal coverage.

    Raises:
        PlanningError: the law does not read params and tokens, the budget is not positive, or no size inside 1e4 to
            1e16 is best.

    Source: Training Compute-Optimal Large Language Models (Hoffmann et al., 2022, arXiv 2203.15556).

    Example:
        >>> from limbeck.laws import BESIROGLU_2024
        >>> plan = compute_optimal(BESIROGLU_2024, 5.76e23)
        >>> round(plan.params.value / 1e9), round(plan.tokens_per_param.value)
        (72, 18)
    """
    positive(a_training_budget=flops)
    check_varied(source, "params", "tokens")
    rows = Ensemble.of(source, "params", "tokens")
    params = best_params(rows, flops)[:, 0]
    tokens = flops / (6.0 * params)
    at = outlook(source, level, params=float(params[0]), tokens=float(tokens[0]))
    size, data, ratio = Estimate.each(level, params, tokens, tokens / params)
    return ComputePlan(float(flops), size, data, ratio, at.loss, level, at.extrapolation, (at.note,))


def best_params(rows: Ensemble, flops: ArrayLike) -> Array:
    """Return N* of every row of a law in params and tokens at budgets [k], [rows, k].

    Raises:
        PlanningError: the estimate's own optimum lies at an end of the range.
    """
    sums = isinstance(rows.model, Chinchilla | Overtraining | Supervised) and bool(rows.parameters["alpha"].all())
    terms = {"A", "B", "alpha", "beta"} & rows.parameters.keys()
    sums = sums and all(rows.parameters[name][0] > 1e-9 for name in terms)  # else one of the two is flat
    return (closed_form if sums else searched)(rows, flops)


def closed_form(rows: Ensemble, flops: ArrayLike) -> Array:
    """Return N* of a Chinchilla-like law; a power around the sum does not move it."""
    sums = {name: value for name, value in rows.parameters.items() if name != "gamma"}
    return ComputeFrontier.of(sums).params(np.atleast_1d(flops))


def searched(rows: Ensemble, flops: ArrayLike) -> Array:
    """Return N* of any law, by a search in ln N along C = 6 N D."""
    budget = np.atleast_1d(np.asarray(flops, float))
    many = Ensemble(rows.source, {name: np.repeat(value, len(budget), 0) for name, value in rows.parameters.items()})
    total = np.tile(budget, len(rows))
    low, high = np.full(len(total), np.log(SMALLEST)), np.log(np.minimum(LARGEST, total / 6.0))
    if not (high > low).all():
        raise PlanningError(f"{budget.min():g} FLOP are too few for a model of {SMALLEST:g} parameters.")

    def loss(u: Array) -> Array:
        return many.loss(params=np.exp(u), tokens=np.exp(np.log(total / 6.0)[:, None] - u))

    found = minimise(loss, low, high)
    ends = loss(np.stack([low, found, high], 1))
    flat = np.ptp(ends, 1) < 1e-9 * np.abs(ends[:, 1])
    for u, top, same, given in zip(found, high, flat, budget, strict=False):  # of the estimate
        if same:
            raise PlanningError(
                f"{rows.model.name} has one loss at every size at {given:g} FLOP: its runs do not differ."
            )
        if not low[0] + 1e-3 < u < top - 1e-3:
            side = "smallest" if u <= low[0] + 1e-3 else "largest"
            raise PlanningError(
                f"{rows.model.name} has no best size at {given:g} FLOP: the {side} is best. The runs do not fix the "
                "trade between size and data; add runs of equal compute at several sizes."
            )
    return np.exp(found).reshape(len(rows), -1)


@dataclass(frozen=True)
class InferencePlan(Plan):
    """The cheapest model of a target loss, training and inference together: 6 N D + 2 N T.

    Args:
        target_loss: nats/token.
        inference_tokens: T, tokens served over the model's life.
        params, tokens: the optimum.
        multiplier: tokens per parameter.
        training_flops, total_flops: of the optimum.
        saving: share of total compute saved against the compute-optimal model of the same loss that serves the same
            tokens.
        level: nominal coverage.
        extrapolation: training compute divided by that of the largest run; None for published constants.
        notes: reach and caveats, in words.
    """

    target_loss: float
    inference_tokens: float
    params: Estimate
    tokens: Estimate
    multiplier: Estimate
    training_flops: Estimate
    total_flops: Estimate
    saving: Estimate
    level: float
    extrapolation: float | None
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        return [
            f"cheapest model of loss {self.target_loss:.4g} that serves {si(self.inference_tokens)} tokens",
            f"  size    {self.params.words('params', self.level)}",
            f"  data    {self.tokens.words('tokens', self.level)} = {self.multiplier.value:.3g} per parameter",
            f"  train   {self.training_flops.words('flops', self.level)}",
            f"  total   {self.total_flops.words('flops', self.level)}, "
            f"{100 * self.saving.value:.0f} % less than the compute-optimal model of this loss",
        ]


def inference_aware(
    source: Source, target_loss: float, inference_tokens: float, *, level: float = 0.8
) -> InferencePlan:
    """Return the size and data that reach a target loss with the least training plus inference compute.

    Minimises 6 N D + 2 N T subject to L(N, D) = target: at the optimum the elasticities of the loss to size and to data
    stand as 1 + T/(3 D) (a model that serves more is smaller and trained for longer).

    Args:
        source: a fit, or published constants, of a law in params and tokens.
        target_loss: nats/token.
        inference_tokens: tokens T that the model will process after training.
        level: nominal coverage.

    Raises:
        PlanningError: no size and data reach the target: it lies at or below the irreducible loss.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540) gives the law; the trade is that of Beyond Chinchilla-Optimal (Sardana et al., 2023, arXiv 2401.00448).

    Example:
        >>> from limbeck.laws import BESIROGLU_2024
        >>> plan = inference_aware(BESIROGLU_2024, 2.1, 1e13)
        >>> plan.multiplier.value > 100
        True
    """
    if inference_tokens < 0:
        raise PlanningError(f"inference tokens cannot be negative; got {inference_tokens:g}.")
    check_varied(source, "params", "tokens")
    rows = Ensemble.of(source, "params", "tokens")
    floor = rows.loss(params=1e30, tokens=1e30)[:, 0]
    limit = rows.loss(params=LARGEST, tokens=LARGEST)[:, 0]
    if not target_loss > limit[0]:
        raise PlanningError(
            f"no model reaches a loss of {target_loss:g} under this law: its floor is {floor[0]:.4g} nats/token. "
            "Ask for more than that."
        )
    feasible = limit < target_loss
    kept = Ensemble(source, {name: value[feasible] for name, value in rows.parameters.items()})

    def spare(u: Array, v: Array) -> Array:
        return np.asarray(target_loss - kept.loss(params=np.exp(u), tokens=np.exp(v)))

    low, high = kept.rows(np.log(SMALLEST)), kept.rows(np.log(LARGEST))
    smallest = root(lambda u: spare(u, high[:, None]), low[:, None], high[:, None])[:, 0]

    def log_tokens(u: Array) -> Array:
        if isinstance(rows.model, Chinchilla | Overtraining):
            return np.log(ComputeFrontier.of(kept.parameters).tokens_reaching(target_loss, np.exp(u)))
        return root(partial(spare, u), np.zeros(u.shape), np.full(u.shape, np.log(LARGEST)), steps=50)

    def cheapest(served: float) -> tuple[Array, Array]:
        def cost(u: Array) -> Array:
            return np.asarray(u + np.logaddexp(np.log(6.0) + log_tokens(u), np.log(2.0 * served + 1e-300)))

        u = minimise(cost, smallest + 1e-9, high, points=17, rounds=10)
        return np.exp(u), np.exp(log_tokens(u[:, None])[:, 0])

    params, tokens = cheapest(inference_tokens)
    plain_params, plain_tokens = cheapest(0.0)
    training = 6 * params * tokens
    total = training + 2 * params * inference_tokens
    without = 6 * plain_params * plain_tokens + 2 * plain_params * inference_tokens
    reach = outlook(source, level, params=float(params[0]), tokens=float(tokens[0]))
    notes = [reach.note]
    if (share := 1 - float(feasible[1:].mean()) if len(rows) > 1 else 0.0) > 0:
        refused = f"{100 * share:.0f} % of the draws cannot reach this loss at all"
        notes.append(f"{refused}: the target is close to the floor")
    if tokens[0] / params[0] < 10:
        notes.append("fewer than 10 tokens per parameter: published laws are off there")
    known = slice(1) if share > (1 - level) / 2 else slice(None)  # an interval would have no upper end
    quantities = (params, tokens, tokens / params, training, total, 1 - total / without)
    n, d, ratio, train, whole, saving = Estimate.each(level, *(rows[known] for rows in quantities))
    asked = float(target_loss), float(inference_tokens)
    return InferencePlan(*asked, n, d, ratio, train, whole, saving, level, reach.extrapolation, tuple(notes))
