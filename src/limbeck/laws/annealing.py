"""Whole loss curves under any learning-rate schedule, from one or a few that were run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Parameter
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, Law
from limbeck.laws.loss import exponent
from limbeck.laws.schedules import Schedule, areas, logged_rates, warmup_steps
from limbeck.runs import BadRow, RunTable

TISSUE = SOURCES["tissue-2024"]

MOMENTA = (0.9, 0.95, 0.99, 0.995, 0.998, 0.999, 0.9995)
"""Values of λ that a fit tries."""

USUAL = 0.999
"""λ where the curves cannot tell."""


@dataclass(frozen=True)
class Annealing(Law):
    """Loss along a training of one size, batch and peak rate: L(s) = L0 + A S1(s)^-alpha - C S2(s).

    S1 is the sum of the learning rates so far, S2 the annealing area with momentum λ (see `areas`). A table of `run`,
    `step`, `lr` and `loss` is enough: a fit rebuilds the rate of every step and chooses the λ of the least objective.
    What stays with C when λ is off is C/(1-λ). The law is not for choosing a peak rate or a tail at rate zero: both
    always lower its prediction.

    Args:
        momentum: λ; None lets the fit choose among `MOMENTA`.
        peak: largest rate of the fitted curves, set by the fit.
        warmup: steps of their warm-up, set by the fit.

    Source: Scaling Law with Learning Rate Annealing (Tissue, Wang, Wang, 2024, arXiv 2408.11029); details of the fit
    are reconstructed.

    Example:
        >>> law = Annealing(momentum=0.5)
        >>> curve = law.columns_of([1.0, 1.0, 0.5, 0.5])
        >>> law({"L0": 2.0, "A": 1.0, "C": 0.1, "alpha": 1.0}, **curve).round(3)
        array([3.   , 2.5  , 2.35 , 2.258])
    """

    momentum: float | None = None
    peak: float | None = None
    warmup: int | None = None

    name = "annealing"
    source = TISSUE
    columns: ClassVar[tuple[str, ...]] = ("S1", "S2")
    shape: ClassVar[str] = "L0 + A / S1^alpha - C S2"
    linear: ClassVar[tuple[str, ...]] = ("L0", "A", "C")
    resampling = "block"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("L0", "loss of an endless training", log=True),
        Parameter("A", "forward area", log=True, dimension={"S1": "alpha"}),
        Parameter("C", "annealing area", log=True),
        exponent("alpha", "exponent of the forward area", (0.1, 0.3, 0.5, 0.8)),
    )
    one_value: ClassVar[tuple[str, ...]] = ("params", "batch_tokens")
    momenta: ClassVar[tuple[float, ...]] = MOMENTA
    of_decay: ClassVar[str] = "C and λ"
    """What only a falling rate tells."""

    @property
    def equation(self) -> str:  # type: ignore[override]
        """The right-hand side, with λ once it is chosen."""
        return self.shape + (f", S2 with momentum {self.momentum:g}" if self.momentum else "")

    def formula(self, p: Any, x: Any) -> Any:
        """L0 + A S1^-alpha - C S2."""
        return p.L0 + p.A * x.S1**-p.alpha - p.C * x.S2

    def size(self, x: Any) -> Any:
        """The forward area."""
        return x.S1

    def columns_of(self, rates: ArrayLike) -> dict[str, Array]:
        """Return S1 and S2 of every step of a schedule, ready for `Fit.predict`."""
        return dict(zip(("S1", "S2"), areas(rates, self.momentum or USUAL, warmup_steps(rates)), strict=True))

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[Law, RunTable]:
        """Return the law with its λ, and the table with S1 and S2, without the rows of the warm-up.

        Raises:
            RunsError: there is no step, lr or loss, or checkpoints go backwards.
            FittingError: curves of several sizes, batches or peak rates, or rates that only rise.
        """
        if set(self.columns) <= {*runs.columns, "params"}:
            return self, runs
        runs = runs.require("step", "lr", "loss", skip_bad=skip_bad)
        runs = runs.without(_unordered(runs), skip_bad)
        for name in set(self.one_value) & set(runs.columns):
            if np.ptp(values := runs.column(name)) > 0:
                raise FittingError(
                    f"these curves have {name} from {values.min():.3g} to {values.max():.3g}: the constants of "
                    f"{self.name} hold for one. Choose it (--where {name}=...), or fit annealing-size to several sizes."
                )
        step, rate, curve = runs.column("step").astype(int), runs.column("lr"), runs.clusters()
        schedules = [logged_rates(step[curve == k], rate[curve == k]) for k in range(curve.max() + 1)]
        peaks = [float(rates.max()) for rates in schedules]
        if max(peaks) > 1.01 * min(peaks):
            raise FittingError(
                f"the peak learning rate of these curves is {min(peaks):.3g} to {max(peaks):.3g}: the constants hold "
                "for one. Fit each peak alone (--where), or share only the exponent (laws.share_exponent)."
            )
        warm = np.array([warmup_steps(rates) for rates in schedules])
        keep = pl.Series(step >= warm[curve])
        runs = replace(runs, frame=runs.frame.filter(keep), rows=runs.rows.filter(keep))

        law = replace(self, peak=max(peaks), warmup=int(warm.min()))

        def ready(momentum: float | None) -> tuple[Annealing, RunTable]:
            own = replace(law, momentum=momentum)
            whole = [own.columns_of(rates) for rates in schedules]
            at = list(zip(curve[keep.to_numpy()], step[keep.to_numpy()], strict=True))
            columns = {name: [whole[k][name][s] for k, s in at] for name in whole[0]}
            said = {"S1": "Σ lr"} | ({"S2": f"annealing area of lr, momentum {momentum:g}"} if momentum else {})
            frame = runs.frame.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
            return own, replace(runs, frame=frame, derived={**runs.derived, **said})

        first = ready(self.momentum or (USUAL if self.momenta else None))
        area = self.gained({name: first[1].column(name) for name in self.columns})
        if area.max() <= 0 > area.min():
            raise FittingError(
                f"the annealing area S2 is negative all along (down to {area.min():.3g}): the learning rate only "
                "rises. If that is a warm-up, give rows after it; C needs a curve whose rate falls."
            )
        if self.momentum or not self.momenta or not area.any():
            return first
        return min((ready(one) for one in self.momenta), key=lambda way: _plain_fit(*way).objective)

    def gained(self, columns: Mapping[str, Array]) -> Array:
        """What annealing has given so far, in the law's own measure: S2."""
        return columns["S2"]

    def remarks(self, columns: Mapping[str, Array]) -> list[str]:
        """Say what the schedules of these curves leave open."""
        area = self.gained(columns)
        flat, negative = np.abs(area) <= 1e-3 * np.abs(area).max(), int((area < 0).sum())
        lost = f"{self.of_decay} are not identified; add a run that decays."
        words = {
            f"The rate never falls in these curves: {lost}": flat.all(),
            "No curve holds a plateau: L0, alpha and C trade off; add a run at a constant rate, or predict only "
            "schedules like these.": flat.mean() < 0.05,
            f"S2 is negative at {negative} points (the rate rises after the warm-up): the law predicts a higher loss "
            "there.": negative > 0,
        }
        return [sentence for sentence, so in words.items() if so]


class AnnealingSize(Annealing):
    """The annealing law for several sizes: L = L0 + A S1^-alpha + B N^-beta - C N^-gamma S2.

    A larger model gains more from annealing: gamma < 0. Batch and peak rate are still the same for all.

    Source: Scaling Law with Learning Rate Annealing (Tissue, Wang, Wang, 2024, arXiv 2408.11029), reconstructed.

    Example:
        >>> truth = {"L0": 2.0, "A": 1.0, "B": 10.0, "C": 0.1, "alpha": 1.0, "beta": 0.5, "gamma": 0.0}
        >>> float(AnnealingSize()(truth, S1=2.0, S2=1.0, params=1e4))
        2.5
    """

    name = "annealing-size"
    columns = ("S1", "S2", "params")
    shape = "L0 + A / S1^alpha + B / params^beta - C S2 / params^gamma"
    linear = ("L0", "A", "B", "C")
    parameters = (
        *Annealing.parameters[:2],
        Parameter("C", "annealing area at params = 1", log=True, dimension={"params": "gamma"}),
        Annealing.parameters[3],
        Parameter("B", "size term at params = 1", log=True, dimension={"params": "beta"}),
        exponent("beta", "exponent of size", (0.1, 0.3, 0.6)),
        Parameter("gamma", "exponent of size in the gain of annealing", start=(-0.2, 0.0), lower=-2.0, upper=2.0),
    )
    one_value = ("batch_tokens",)

    def formula(self, p: Any, x: Any) -> Any:
        """L0 + A S1^-alpha + B N^-beta - C N^-gamma S2."""
        return p.L0 + p.A * x.S1**-p.alpha + p.B * x.params**-p.beta - p.C * x.params**-p.gamma * x.S2

    def size(self, x: Any) -> Any:
        """Forward area times parameters."""
        return x.S1 * x.params


def _unordered(runs: RunTable) -> list[BadRow]:
    """List rows whose step is not beyond all earlier ones of their run, and rates below zero."""
    step, rate = runs.column("step"), runs.column("lr")
    frame = pl.DataFrame({"step": step, "run": runs.clusters()})
    before = frame.select(pl.col("step").cum_max().shift().over("run"))["step"].to_numpy()
    faults = [(i, "lr", f"{rate[i]:g}: a learning rate is not negative") for i in np.flatnonzero(rate < 0)]
    for i in np.flatnonzero(step <= before):
        faults.append((i, "step", f"{step[i]:g} comes after {before[i]:g}: checkpoints go forward"))
    return [BadRow(runs.rows[int(i)], column, reason) for i, column, reason in faults]


def _plain_fit(law: Law, runs: RunTable, **options: Any) -> Fit:
    columns = {name: runs.column(name) for name in law.columns}
    return fit_model(law, columns, runs.column(law.target), bootstrap=0, **options)


def share_exponent(groups: Mapping[str, RunTable], law: Annealing | None = None) -> dict[str, Fit]:
    """Fit curves of several peak rates, sizes or batches: every group has its own L0, A, C and λ, all share alpha.

    Args:
        groups: the curves of each, as `Annealing.prepare` reads them.
        law: with a λ, to hold it.

    Returns:
        One fit per group, without draws, alpha fixed at the value of the least total objective.
    """
    ready = {name: (law or Annealing()).prepare(runs) for name, runs in groups.items()}

    def fits(alpha: float) -> dict[str, Fit]:
        return {name: _plain_fit(*one, fixed={"alpha": alpha}) for name, one in ready.items()}

    total = lambda alpha: sum(one.objective for one in fits(alpha).values())  # noqa: E731
    return fits(float(minimize_scalar(total, bounds=(0.05, 1.5), method="bounded").x))


def annealed(
    fit: Fit, runs: RunTable, *, decay: float = 0.2, shape: str = "linear", end: float = 0.0, from_tokens: float = 0.0
) -> RunTable:
    """Turn checkpoints into final losses: what each would have been had its run decayed and stopped there.

    L_annealed(s) = L(s) + law(imagined decay that ends at s) - law(the run so far): one plateau gives many points of a
    law in size and data, and a long cosine stops looking worse than short ones. The source corrects by S2 alone; the
    decay shortens S1 too, and on measured curves the full difference errs five times less.

    Args:
        fit: of `annealing`, on curves of the same size, batch and peak rate.
        runs: run, step, lr and loss of the checkpoints.
        decay: share of the steps that the imagined decay takes.
        shape, end: of the imagined decay, see `Schedule`.
        from_tokens: checkpoints before this many tokens are left out; early ones follow other laws.

    Returns:
        The table without the warm-up, `loss` annealed and `raw_loss` as it was logged.

    Raises:
        FittingError: a fit of another law, or of curves that never anneal.

    Source: Scaling Law with Learning Rate Annealing (Tissue, Wang, Wang, 2024, arXiv 2408.11029), reconstructed; the
    difference in S1 is this project's.
    """
    law = fit.model
    if not isinstance(law, Annealing):
        raise FittingError(f"checkpoints are annealed by a fit of annealing; this is one of {law.name}.")
    if not fit.identifiability.identified["C"]:
        raise FittingError("the fitted curves never anneal, so C is not identified: add one whose rate falls.")
    table = law.prepare(runs)[1]
    table = table.filter(f"tokens>={from_tokens:g}") if from_tokens else table
    given = (law.peak or 0.0, shape, end, law.warmup or 0, decay)
    ends = [law.columns_of(Schedule(int(s) + 1, *given).rates()) for s in table.column("step")]
    there = {name: np.array([one[name][-1] for one in ends]) for name in law.columns}
    gain = fit.value(**there) - fit.value(**{name: table.column(name) for name in law.columns})
    frame = table.frame.with_columns(loss=table.column("loss") + gain, raw_loss=table.column("loss"))
    return replace(table, frame=frame, derived={**table.derived, "loss": f"loss as if annealed over {decay:.0%}"})


LUO = SOURCES["luo-2025"]
PARTS = 24
"""Parts, of equal change of the rate, that a schedule is summed over."""


class MultiPower(Annealing):
    """Loss along a training: L(s) = L0 + A S1^-alpha - B Σ_k (η_{k-1} - η_k) (1 - (1 + C η_k^-gamma S1_k)^-beta).

    S1_k = S1(s) - S1(k-1) is the sum of the rates since step k, the sum runs over the steps after the warm-up. A fit
    takes it over `PARTS` parts of a schedule, each with its mean rate and mean S1_k (within 0.02 % of the loss), and
    η_k in units of the peak, so that C = C_paper peak^-gamma; see `constants`. It reads what `annealing` reads, best a
    plateau, a smooth decay and a single drop: without the drop beta and gamma are not identified.

    Source: A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules (Luo et al., 2025, arXiv
    2503.12811).

    Example:
        >>> law = MultiPower()
        >>> curve = law.columns_of([0.1, 0.1, 0.05, 0.05])
        >>> p = {"L0": 2.0, "A": 1.0, "B": 10.0, "alpha": 0.5, "C": 10**0.5, "beta": 0.5, "gamma": 0.5}
        >>> law(p, **curve)[[1, 3]].round(3)
        array([4.236, 3.741])
    """

    name = "multi-power"
    source = LUO
    dependent = tuple(f"{part}{k}" for k in range(PARTS) for part in ("fall", "rate", "since"))
    columns = ("S1", *dependent)
    shape = "L0 + A / S1^alpha - B sum_k fall_k (1 - (1 + C rate_k^-gamma since_k)^-beta)"
    linear = ("L0", "A", "B")
    momenta = ()
    of_decay = "B, C, beta and gamma"
    parameters = (
        *Annealing.parameters[:2],
        Parameter("B", "gain per rate that falls", log=True),
        Annealing.parameters[3],
        Parameter("C", "pace of the gain at the peak rate", start=(100.0, 1000.0), log=True),
        Parameter("beta", "exponent of the gain", start=(0.5,), lower=0.05, upper=5.0),
        Parameter("gamma", "exponent of the rate", start=(0.5,), lower=0.0, upper=2.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """L0 + A S1^-alpha - B Σ fall (1 - (1 + C rate^-gamma since)^-beta)."""
        fall, rate, since = ([getattr(x, f"{part}{k}") for k in range(PARTS)] for part in ("fall", "rate", "since"))
        gains = (f * (1 - (1 + p.C * r**-p.gamma * s) ** -p.beta) for f, r, s in zip(fall, rate, since, strict=True))
        return p.L0 + p.A * x.S1**-p.alpha - p.B * sum(gains)

    def columns_of(self, rates: ArrayLike) -> dict[str, Array]:
        """Return S1 and the parts of every step of a schedule, ready for `Fit.predict`."""
        eta = np.asarray(rates, float)
        s1, fall = np.cumsum(eta), -np.diff(eta, prepend=eta[:1])
        fall[: warmup_steps(eta) + 1] = 0.0
        change = np.abs(fall)
        part = np.minimum(PARTS * (np.cumsum(change) - change / 2) / max(change.sum(), 1e-300), PARTS - 1).astype(int)
        own = (np.arange(PARTS)[:, None] == part) * change
        weight = np.cumsum(own, 1)
        log_rate, before = (
            np.cumsum(own * one, 1) / np.maximum(weight, 1e-300)
            for one in (np.log(np.maximum(eta / eta.max(), 1e-6)), s1 - eta)
        )
        parts = {"fall": np.cumsum(own * np.sign(fall), 1), "rate": np.exp(log_rate)}
        parts["since"] = np.where(weight > 0, s1 - before, 0.0)
        return {"S1": s1} | {f"{name}{k}": row for name, rows in parts.items() for k, row in enumerate(rows)}

    def gained(self, columns: Mapping[str, Array]) -> Array:
        """How far the rate has fallen."""
        return np.asarray(sum(columns[f"fall{k}"] for k in range(PARTS)))

    def constants(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Return the constants as the paper has them, for `multi_power`."""
        return {**parameters, "C": parameters["C"] * (self.peak or 1.0) ** parameters["gamma"]}


def multi_power(rates: ArrayLike, steps: ArrayLike, constants: Mapping[str, float], *, warmup: int = 0) -> Array:
    """Return the loss at some steps by the multi-power law, which saturates where the annealing law goes on falling.

    L(s) = L0 + A S1(s)^-alpha + B Σ_{k≤s} (η_k - η_{k-1}) (1 - (1 + C η_k^-gamma (S1(s) - S1(k-1)))^-beta)

    Args:
        rates: η of every step, [steps].
        steps: where the loss is wanted, [n].
        constants: L0, A, alpha, B, C, beta and gamma.
        warmup: steps at the start whose changes of the rate do not count.

    Source: A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules (Luo et al., 2025, arXiv
    2503.12811).

    Example:
        >>> constants = {"L0": 2.0, "A": 1.0, "alpha": 0.5, "B": 10.0, "C": 1.0, "beta": 0.5, "gamma": 0.5}
        >>> multi_power([0.1, 0.1, 0.05, 0.05], [1, 3], constants).round(3)
        array([4.236, 3.741])
    """
    eta, s, c = np.asarray(rates, float), np.asarray(steps, int), SimpleNamespace(**constants)
    s1 = np.cumsum(eta)
    k = np.flatnonzero(np.diff(eta)) + 1
    k = k[k > warmup]
    since = np.where(k <= s[:, None], s1[s][:, None] - s1[k - 1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 1 - (1 + c.C * np.where(since > 0, eta[k] ** -c.gamma, 0.0) * since) ** -c.beta
    return np.asarray(c.L0 + c.A * s1[s] ** -c.alpha + c.B * (gain * np.diff(eta)[k - 1]).sum(1))
