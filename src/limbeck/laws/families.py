"""Families of models: the end of the training of the largest one is the target, everything smaller is known.

`read_families` finds them in a table, `Family.study` tells what one family's own runs can say about its target, and
`laws.compare_families` which rule to fit a family by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError, RunsError, nearest
from limbeck.fitting import Fit, Loss, Problem, minimise
from limbeck.fitting import fit as fit_model
from limbeck.fitting.baselines import last_value
from limbeck.fitting.data import Data
from limbeck.fitting.design import check_distinct
from limbeck.fitting.model import Array
from limbeck.fitting.multistart import grid_starts
from limbeck.fitting.picture import chart
from limbeck.laws.law import SOURCES, get
from limbeck.runs import RunTable, read_runs
from limbeck.runs.conditions import Where, choose
from limbeck.runs.quantities import scientific, si

CHOSHEN = SOURCES["choshen-2024"]
ENOUGH = 5
"""Models that a law needs to be safe (section 8)."""

NOISE = 0.035
"""Relative difference of the loss between seeds of one model: no error below it means anything (section 4)."""


def absolute_relative_error(loss: ArrayLike, predicted: ArrayLike, *, signed: bool = False) -> Array:
    """Return ARE, the mean of |L - L^|/L along the last axis, or of (L - L^)/L.

    Args:
        loss: measured, [n].
        predicted: [..., n], or one number.
        signed: keep the sign.

    Source: A Hitchhiker's Guide to Scaling Law Estimation (Choshen, Zhang, Andreas, 2024, arXiv 2410.11840), section 4.

    Example:
        >>> float(absolute_relative_error([2.0, 4.0], [1.0, 5.0]))
        0.375
    """
    relative = (np.asarray(loss, float) - np.asarray(predicted, float)) / np.asarray(loss, float)
    return np.asarray((relative if signed else np.abs(relative)).mean(-1))


@dataclass(frozen=True)
class Family:
    """The checkpoints of one family of models. Build it with `read_families`.

    Args:
        name: of the family.
        columns: params where there are sizes, and tokens or samples, [n] each.
        loss: [n].
        model: number of the training that each checkpoint belongs to, [n].
        target: checkpoints to predict, [n].
        train: checkpoints that may be fitted for it, [n].
        source: families of one source lend each other nothing.

    Source: A Hitchhiker's Guide to Scaling Law Estimation (Choshen, Zhang, Andreas, 2024, arXiv 2410.11840), section 3.
    """

    name: str
    columns: dict[str, Array]
    loss: Array
    model: NDArray[np.int_]
    target: NDArray[np.bool_]
    train: NDArray[np.bool_]
    source: str

    @cached_property
    def data(self) -> Array:
        """Tokens or samples seen, [n]."""
        return next(value for name, value in self.columns.items() if name != "params")

    @cached_property
    def size(self) -> Array:
        """Parameters, or the data seen where all models are of one size, [n]."""
        return self.columns.get("params", self.data)

    @cached_property
    def progress(self) -> Array:
        """Share of its training, as far as it may be fitted, that each checkpoint has behind it, [n]."""
        known = self.train | ~np.isin(self.model, self.model[self.train])
        longest = np.zeros(int(self.model.max()) + 1)
        np.maximum.at(longest, self.model[known], self.data[known])
        return self.data / longest[self.model]

    @property
    def scale_up(self) -> float:
        """Size of the target over that of the largest model that may be fitted."""
        return float(self.size[self.target].max() / self.size[self.train].max())

    def at(self, rows: NDArray[np.bool_], law: str) -> dict[str, Array]:
        """Return the columns that a law reads at some checkpoints."""
        return {name: self.columns[name][rows] for name in get(law).columns}

    def begin(self, law: str, use: NDArray[np.bool_], loss: Loss) -> tuple[Problem, Array]:
        """Return the problem of fitting a law to some checkpoints, and the best of the law's starts.

        Raises:
            FittingError: the checkpoints cannot identify the law: too few of them, or of the sizes.
        """
        sizes = len(np.unique(self.columns["params"][use])) if "params" in self.columns else 3
        needed = {"chinchilla": 3, "overtraining": 2}.get(law, 1)
        if sizes < needed:
            raise FittingError(
                f"{self.name}: {law} needs {needed} sizes below the largest model, there are {sizes}: "
                "floor, size term and exponent cannot be told apart. Borrow them from other families."
            )
        model, columns, target = get(law), self.at(use, law), self.loss[use]
        check_distinct(model, Data.of(model, columns, target), len(model.parameters))
        problem = Problem.build(model, columns, target, loss=loss)
        starts = grid_starts(problem)
        return problem, starts[np.argmin(problem.objective(starts, np.zeros(len(starts), int)))]

    def fit(self, law: str, use: NDArray[np.bool_], loss: Loss) -> Fit:
        """Fit a law to some checkpoints.

        Args:
            law: its name.
            use: the checkpoints, [n].
            loss: what is minimised, from the best of the law's starts.

        Raises:
            FittingError: see `begin`.
        """
        problem, z = self.begin(law, use, loss)
        start = problem.parameters(z)
        return fit_model(get(law), self.at(use, law), self.loss[use], loss=loss, start=start, bootstrap=0)

    def are(self, predicted: ArrayLike, *, signed: bool = False) -> Array:
        """Return the ARE of predictions of the target, [..., targets]."""
        return absolute_relative_error(self.loss[self.target], predicted, signed=signed)

    def baselines(self) -> dict[str, float]:
        """Return the ARE of what a law must beat: the best loss so far, and the loss of the most compute."""
        loss, cost = self.loss[self.train], (self.size * self.data)[self.train]
        return {"best loss": float(self.are(loss.min())), "most trained": float(self.are(last_value(cost, loss)))}

    def study(self, law: str = "chinchilla", *, cut: float = 0.1) -> FamilyStudy:
        """Predict the target from the k smallest models and the first part p of their training, for all k and p.

        Args:
            law: a law of params and tokens.
            cut: first part of every run that is never fitted.

        Raises:
            FittingError: there are no sizes, or they cannot identify the law.
        """
        if "params" not in self.columns:
            raise FittingError(f"{self.name} has no column params: there are no sizes to predict a larger one from.")
        whole = self.train & (self.progress >= cut)
        fit = self.fit(law, whole, Loss(np.inf, "relative"))
        sizes, parts = np.unique(self.size[whole]), np.linspace(0.1, 1.0, 10)
        least = 3 if law == "chinchilla" else 2
        cells = [(k, p, whole & (self.size <= sizes[k - 1]) & (self.progress <= p + 1e-9))
                 for k in range(least, len(sizes) + 1) for p in parts]  # fmt: skip
        cells = [cell for cell in cells if len(np.unique(self.size[cell[2]])) >= least and cell[2].sum() > ENOUGH]
        without = [whole & (self.size != size) for size in sizes if len(sizes) > least]
        errors = self.are(self._refits(fit, [mask for *_, mask in cells] + without, whole))
        grid = tuple(
            Cell(k, float(p), float(self.size[self.target][0] / sizes[k - 1]), self._flops(mask), float(error))
            for (k, p, mask), error in zip(cells, errors, strict=False)
        )
        left_out = dict(zip(sizes.tolist(), errors[len(cells) :].tolist(), strict=False))
        error = float(self.are(fit.value(**self.at(self.target, law))))
        return FamilyStudy(self.name, law, self.scale_up, error, self.baselines(), grid, left_out)

    def _refits(self, fit: Fit, masks: Sequence[NDArray[np.bool_]], whole: NDArray[np.bool_]) -> Array:
        """Predictions of the target by the law fitted to each mask, [masks, targets], one batch of warm starts."""
        rows = fit.problem.with_rows(weights=np.array(masks, float)[:, whole])
        ends = minimise(rows, np.repeat(fit.z[None], len(masks), 0), damping=0.1)
        parameters = {name: value[:, None] for name, value in fit.problem.natural(ends.z).items()}
        return fit.model(parameters, **self.at(self.target, fit.model.name))

    def _flops(self, mask: NDArray[np.bool_]) -> float:
        """Compute of the models in a mask: the sum of 6 N D."""
        cost = np.zeros(int(self.model.max()) + 1)
        np.maximum.at(cost, self.model[mask], 6 * (self.size * self.data)[mask])
        return float(cost.sum())


@dataclass(frozen=True)
class Cell:
    """A law fitted to the `models` smallest sizes and the first `part` of their training.

    Args:
        models, part: what was fitted.
        scale_up: size of the target over the largest of them.
        flops: their compute, the sum of 6 N D.
        are: error at the target.
    """

    models: int
    part: float
    scale_up: float
    flops: float
    are: float


@dataclass(frozen=True)
class FamilyStudy:
    """What one family's own runs say about its largest model.

    Args:
        name, law: family and law.
        scale_up: size of the target over the largest model fitted.
        are: error of the law on everything below the largest model.
        baselines: errors that it must beat.
        grid: errors from fewer models and shorter trainings.
        left_out: error without the models of one size, by size.
    """

    name: str
    law: str
    scale_up: float
    are: float
    baselines: dict[str, float]
    grid: tuple[Cell, ...]
    left_out: dict[float, float]

    def cheapest(self, error: float) -> Cell | None:
        """Return the cell of least compute whose error is at most this, or None."""
        return min((cell for cell in self.grid if cell.are <= error), key=lambda cell: cell.flops, default=None)

    def advise(self) -> list[str]:
        """Return what to do about this family, in words."""
        few = f"{len(self.left_out) or 'too few'} sizes are fitted: {ENOUGH} are safe, small ones will do"
        size, without = max(self.left_out.items(), key=lambda item: abs(item[1] - self.are), default=(0.0, self.are))
        words = {
            few: len(self.left_out) < ENOUGH,
            "the error is within what seeds differ by: finer comparisons mean nothing": self.are <= NOISE,
            "a simple rule does better: train sizes nearer to the target, or borrow from other families":
                min(self.baselines.values()) < self.are,
            f"the answer hangs on the {si(size)} models: {100 * without:.1f} % without them":
                abs(without - self.are) > max(0.01, self.are / 2),
        }  # fmt: skip
        return [sentence for sentence, so in words.items() if so]

    def plot(self) -> Any:
        """Draw the error from fewer models and shorter trainings against their compute."""
        marks: list[dict[str, Any]] = []
        for k in sorted({cell.models for cell in self.grid}):
            cells = sorted((cell for cell in self.grid if cell.models == k), key=lambda cell: cell.flops)
            x, y = [cell.flops for cell in cells], [100 * cell.are for cell in cells]
            marks.append({"x": x, "y": y, "mode": "lines+markers", "name": f"{k} sizes"})
        title = f"{self.name}: {100 * self.are:.2g} % off on a model {self.scale_up:.3g}× larger"
        ends = [min(cell.flops for cell in self.grid), max(cell.flops for cell in self.grid)] if self.grid else []
        for name, error in self.baselines.items():
            line = {"x": ends, "y": [100 * error] * len(ends), "mode": "lines", "name": name}
            marks.append(line | {"line": {"dash": "dot"}})
        return chart(title, "compute of what is fitted, FLOP", "error at the largest model, %", marks, log="xy")

    def summary(self) -> str:
        """Return the errors as plain text."""
        lines = [f"{self.name}, {self.law}: ARE {100 * self.are:.2f} % on a model {self.scale_up:.3g}× larger"]
        lines += [f"  {name}: {100 * error:.2f} %" for name, error in self.baselines.items()]
        for error in (0.15, 0.1, 0.05):
            cell = self.cheapest(error)
            text = "not reached" if cell is None else (
                f"{scientific(cell.flops)} FLOP: the {cell.models} smallest sizes, {cell.part:.0%} of their training"
            )  # fmt: skip
            lines.append(f"  {error:.0%} or better from {text}")
        weighty = sorted(self.left_out.items(), key=lambda item: -abs(item[1] - self.are))[:5]
        lines += [f"  without {si(size)}: {100 * error:.2f} %" for size, error in weighty]
        return "\n".join([*lines, *self.advise()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        return {**asdict(self), "advice": self.advise()}


def read_families(
    runs: RunTable | Any, *, holdout: Where = "largest", last: float = 0.3, source: str | None = None, **read: Any
) -> tuple[list[Family], dict[str, str]]:
    """Return the families of a table, and for those that cannot be used the reason.

    Args:
        runs: as for `fit`, with the columns family, loss, tokens or samples, and params where sizes differ. `run`
            names the trainings; without it the models of one size are one training.
        holdout: "largest", or a condition that marks the rows to predict (`is_train=0`).
        last: final share of the largest model's training that is predicted.
        source: column that says which families are not independent.
        read: options of `read_runs`.

    Raises:
        RunsError: a column is not there, or a row is bad.
    """
    table = read_runs(runs, mix_setups=True, **read)
    data = next((name for name in ("tokens", "samples") if name in table.columns), "tokens")
    names = [name for name in ("params", data) if name == data or name in table.columns]
    table = table.require("loss", *names, skip_bad=bool(read.get("skip_bad")))
    for column in filter(None, ("family", source)):
        if column not in table.columns:
            raise RunsError(
                f"{table.source} has no column {column}.{nearest(column, table.columns)} It has: "
                f"{', '.join(table.columns[:15])}. Name it with --map YOURS={column}."
            )
    marked = None if holdout == "largest" else choose(table.frame, holdout, table.source).to_numpy()
    found: list[Family] = []
    skipped: dict[str, str] = {}
    for rows in table.frame.with_row_index("row").partition_by("family", maintain_order=True):
        name, mine = rows["family"][0], rows["row"].to_numpy()
        columns = {column: table.column(column)[mine] for column in names}
        size, seen = columns.get("params", np.zeros(len(mine))), columns[data]
        model = np.unique(table.clusters()[mine] if "run" in table.columns else size, return_inverse=True)[1]
        largest = size == size.max() if marked is None else marked[mine]
        target, train = largest, ~largest
        if marked is None:
            target = largest & (seen >= (1 - last) * seen[largest].max())
        if reason := _unusable(name, size, target, train, by_size=marked is None):
            skipped[name or "rows without a family"] = reason
            continue
        label = str(rows[source or "family"][0])
        found.append(Family(str(name), columns, table.column("loss")[mine], model, target, train, label))
    return found, skipped


def _unusable(
    name: str | None, size: Array, target: NDArray[np.bool_], train: NDArray[np.bool_], *, by_size: bool
) -> str:
    """Why a family cannot be studied; empty where it can."""
    sizes = len(np.unique(size))
    if not name:
        return f"{len(size)} rows have no family name: fill the column, or name it with --map family=COLUMN"
    if by_size and sizes == 1:
        return f"one value of params ({si(size[0])}): there is nothing larger to predict"
    if by_size and sizes == 2:
        return "2 sizes: two are needed to fit and a third to predict"
    if not target.any() or train.sum() < ENOUGH:
        return f"{int(train.sum())} points to fit and {int(target.sum())} to predict: {ENOUGH} and 1 are needed"
    return ""
