"""Which rule to fit a family of models by: the one that predicts the largest members of all other families best.

A rule is a law, the early checkpoints that it leaves out, and what it borrows from other families. Nothing of a family
is used to choose its rule: neither its target nor its share of what the other families borrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting import Loss, Problem, minimise
from limbeck.fitting.model import Array
from limbeck.fitting.multistart import grid_starts
from limbeck.fitting.prediction import percentile_interval
from limbeck.fitting.separable import solve_linear
from limbeck.laws.families import ENOUGH, Family
from limbeck.laws.loss import Chinchilla, PowerFloor
from limbeck.runs.quantities import si

LEAST_SQUARES = Loss(math.inf, "relative")
EXPONENTS = np.linspace(0.05, 1.0, 39)
ALPHA, BETA = (axis.ravel() for axis in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
"""The pairs of exponents among which families agree on one."""


@dataclass(frozen=True)
class Rule:
    """How to predict the largest model of a family.

    Families that lend agree on alpha and beta by their joint profile likelihood, each with its own E, A, B and noise;
    their size term A/(N^alpha L) is the median over them, L the least loss that the family has seen.

    Args:
        law: name of the law.
        cut: first part of every training that is left out.
        cut_tokens: tokens below which checkpoints are left out.
        loss: what is minimised.
        borrow: from other families: nothing; the exponents; or the size term, with E, B and beta fitted to the largest
            models that have five checkpoints together.

    Source: A Hitchhiker's Guide to Scaling Law Estimation (Choshen, Zhang, Andreas, 2024, arXiv 2410.11840), section 5;
    the pooling is reconstructed.
    """

    law: str = "chinchilla"
    cut: float = 0.0
    cut_tokens: float = 0.0
    loss: Loss = LEAST_SQUARES
    borrow: Literal["", "exponents", "size term"] = ""

    def kept(self, family: Family) -> NDArray[np.bool_]:
        """Return which checkpoints of a family it looks at, [n]."""
        return np.asarray((family.progress >= self.cut) & (family.data >= self.cut_tokens))

    def describe(self) -> str:
        """Return the rule in words.

        Example:
            >>> Rule(cut=0.1, borrow="size term").describe()
            'chinchilla, size term borrowed, without the first 10 %'
        """
        words = [self.law, f"{self.borrow} borrowed" if self.borrow else ""]
        words += ["" if math.isinf(self.loss.delta) else "Huber"]
        words += [f"without the first {100 * self.cut:.0f} %" if self.cut else ""]
        words += [f"from {si(self.cut_tokens)} tokens" if self.cut_tokens else ""]
        return ", ".join(filter(None, words))

    def forecasts(self, families: Sequence[Family], lenders: NDArray[np.bool_]) -> list[Array]:
        """Return what it predicts for the targets, [sets of lenders, targets] a family; NaN where it cannot be used.

        Args:
            families: all families.
            lenders: which may lend to each, [families, sets, families].
        """
        if self.borrow:
            agreement, terms = map(np.array, zip(*[self._profile(family) for family in families], strict=True))
        found = []
        for family, lend in zip(families, lenders, strict=True):
            forecast = np.full((len(lend), int(family.target.sum())), np.nan)
            use = family.train & self.kept(family)
            if not self.borrow:
                with suppress(FittingError):
                    forecast[:] = family.fit(self.law, use, self.loss).value(**family.at(family.target, self.law))
            elif use.sum() >= ENOUGH:
                some = lend.any(1)
                best = np.argmin(lend[some] @ agreement, 1)
                if self.borrow == "exponents":
                    forecast[some] = _with_exponents(family, use, best)
                else:
                    term = np.array([np.median(terms[on, k]) for on, k in zip(lend[some], best, strict=True)])
                    forecast[some] = _with_size_term(family, use, term, ALPHA[best])
            found.append(forecast)
        return found

    def _profile(self, family: Family) -> tuple[Array, Array]:
        """Logarithm of the mean squared relative residual, and A over the least loss, at every pair of exponents."""
        use = self.kept(family)
        use = use if use.sum() > ENOUGH else np.ones_like(use)
        problem, z = _solved(family, use, ALPHA, BETA)
        objective = problem.objective(z, np.zeros(len(z), int))
        return np.log(objective / use.sum()), problem.natural(z)["A"] / family.loss[family.train].min()


def _solved(family: Family, use: NDArray[np.bool_], alpha: Array, beta: Array) -> tuple[Problem, Array]:
    """The problem of some checkpoints and E, A, B at their least squares for given exponents, [rows, 5]."""
    columns = family.at(use, "chinchilla")
    problem = Problem.build(Chinchilla(), columns, family.loss[use], loss=LEAST_SQUARES)
    z = np.zeros((len(alpha), len(problem.free)))
    z[:, [problem.free.index("alpha"), problem.free.index("beta")]] = np.stack([alpha, beta], 1)
    return problem, solve_linear(problem, z, np.zeros(len(z), int))


def _with_exponents(family: Family, use: NDArray[np.bool_], best: NDArray[np.int_]) -> Array:
    problem, z = _solved(family, use, ALPHA[best], BETA[best])
    parameters = {name: value[:, None] for name, value in problem.natural(z).items()}
    return Chinchilla()(parameters, **family.at(family.target, "chinchilla"))


def _with_size_term(family: Family, use: NDArray[np.bool_], term: Array, alpha: Array) -> Array:
    """E + B/D^beta fitted to the loss less the borrowed A/N^alpha, on the largest models, one row a pair."""
    sizes = np.unique(family.size[use])[::-1]
    use = use & (family.size >= next(s for s in sizes if (use & (family.size >= s)).sum() >= ENOUGH))
    pairs, back = np.unique(np.stack([term, alpha], 1), axis=0, return_inverse=True)
    borrowed = family.loss[family.train].min() * pairs[:, :1] * family.size ** -pairs[:, 1:]
    law, y = PowerFloor("tokens"), family.loss[use]
    problem = Problem.build(law, {"tokens": family.data[use]}, y, loss=Loss(math.inf, "linear"), weights=y**-2.0)
    rows, starts = problem.with_rows(target=y - borrowed[:, use]), grid_starts(problem)
    index = np.repeat(np.arange(len(pairs)), len(starts))
    ends = minimise(
        rows, solve_linear(rows, np.tile(starts, (len(pairs), 1)), index), index, damping=0.1, tolerance=1e-9
    )
    least = ends.objective.reshape(len(pairs), -1).argmin(1) + len(starts) * np.arange(len(pairs))
    parameters = {name: value[:, None] for name, value in problem.natural(ends.z[least]).items()}
    values = law(parameters, tokens=family.data[family.target]) + borrowed[:, family.target]
    return np.asarray(values[back.reshape(-1)])


CUTS: tuple[dict[str, Any], ...] = ({}, {"cut_tokens": 1e10}, {"cut": 0.1}, {"cut": 0.3}, {"cut": 0.5})


def candidates(families: Sequence[Family]) -> tuple[Rule, ...]:
    """Return the rules that these families are compared by: laws, losses, cuts and borrowed constants, all combined."""
    if all("params" in family.columns for family in families):
        kinds: list[dict[str, Any]] = [
            {}, {"loss": Loss()}, {"law": "overtraining"}, {"borrow": "exponents"}, {"borrow": "size term"}
        ]  # fmt: skip
        return tuple(Rule(**kind, **cut) for kind in kinds for cut in CUTS)
    data = next(iter(families[0].columns))
    names = [f"{law}:{data}" for law in ("power", "power-floor", "broken-power")]
    return tuple(
        Rule(name, loss=loss, **cut) for name in names for loss in (LEAST_SQUARES, Loss()) for cut in CUTS[::2]
    )


@dataclass(frozen=True)
class FamilyComparison:
    """Rules on families, and the rule that each family gets from all the others.

    Args:
        families: those that could be used.
        rules: the candidates.
        errors: ARE of each rule [rules, left out, judged]: nothing of the family left out was lent to the one judged.
            Infinite where a rule cannot be used.
        signed: mean of (L - L^)/L of each rule on each family, [rules, families].
        skipped: reason for every family that could not be used.
    """

    families: tuple[Family, ...]
    rules: tuple[Rule, ...]
    errors: Array
    signed: Array
    skipped: dict[str, str]

    @cached_property
    def chosen(self) -> NDArray[np.int_]:
        """Number of the rule of each family: the least median ARE on all families of other sources, [families]."""
        apart = _apart(self.families)
        scores = np.array([np.median(self.errors[:, f, apart[f]], axis=1) for f in range(len(apart))])
        usable = np.isfinite(np.diagonal(self.errors, axis1=1, axis2=2)).T
        return np.asarray(np.argmin(np.where(usable, scores, np.inf), axis=1))

    @property
    def are(self) -> Array:
        """ARE of each family by its chosen rule, [families]."""
        f = np.arange(len(self.families))
        return np.asarray(self.errors[self.chosen, f, f])

    def medians(self) -> dict[str, float]:
        """Return the median ARE over the families: of the chosen rules and of the baselines."""
        simple = [family.baselines() for family in self.families]
        return {"chosen": float(np.median(self.are))} | {
            name: float(np.median([one[name] for one in simple])) for name in simple[0]
        }

    def interval(self, level: float = 0.8, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Return the interval of the chosen rules' median ARE over resampled families."""
        drawn = np.random.default_rng(seed).choice(self.are, (resamples, len(self.are)))
        low, high = percentile_interval(np.median(drawn, axis=1), level)
        return float(low), float(high)

    def summary(self) -> str:
        """Return the table of families: scale-up, error and sign, baselines, and the rule that the others chose."""
        width = max(len(family.name) for family in self.families)
        used = list(dict.fromkeys(self.chosen.tolist()))
        lines = [f"{'family':{width}}  larger     ARE    bias  best loss  most trained  rule"]
        for f, (family, k) in enumerate(zip(self.families, self.chosen, strict=True)):
            best, most = family.baselines().values()
            bias = f"{100 * self.signed[k, f]:+5.1f}".replace("-", "−")
            errors = f"{100 * self.are[f]:5.2f} % {bias} % {100 * best:8.1f} % {100 * most:11.1f} %"
            lines.append(f"{family.name:{width}} {family.scale_up:6.3g}× {errors}  {used.index(k) + 1}")
        lines += [f"rule {i + 1}: {self.rules[k].describe()}" for i, k in enumerate(used)]
        median = self.medians()
        low, high = self.interval()
        lines.append(
            f"median ARE {100 * median['chosen']:.2f} % (80 %: {100 * low:.2f} – {100 * high:.2f}) over "
            f"{len(self.families)} families; best loss {100 * median['best loss']:.2f} %, most trained "
            f"{100 * median['most trained']:.2f} %"
        )
        return "\n".join([*lines, *(f"{name} left out: {reason}" for name, reason in self.skipped.items())])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        own = np.diagonal(self.errors, axis1=1, axis2=2)
        return {
            "families": [
                {"family": family.name, "source": family.source, "scale_up": family.scale_up, "are": float(self.are[f]),
                 "signed": float(self.signed[k, f]), "rule": self.rules[k].describe(), "baselines": family.baselines()}
                for f, (family, k) in enumerate(zip(self.families, self.chosen, strict=True))
            ],
            "median": self.medians(), "interval": self.interval(), "skipped": self.skipped,
            "rules": {
                rule.describe(): middle if np.isfinite(middle := float(np.median(own[r]))) else None
                for r, rule in enumerate(self.rules)
            },
        }  # fmt: skip


def compare_families(
    families: Sequence[Family], rules: Sequence[Rule] | None = None, *, skipped: dict[str, str] | None = None
) -> FamilyComparison:
    """Choose the rule of every family on all other families, and measure it on the family's own largest model.

    Args:
        families: of `read_families`.
        rules: candidates; `candidates(families)` by default.
        skipped: families that could not be used, for the report.

    Raises:
        FittingError: fewer than three families, or all from one source.

    Source: A Hitchhiker's Guide to Scaling Law Estimation (Choshen, Zhang, Andreas, 2024, arXiv 2410.11840).
    """
    if len(families) < 3 or len({family.source for family in families}) < 2:
        left = "".join(f"\n  {name} left out: {reason}" for name, reason in (skipped or {}).items())
        raise FittingError(
            f"a rule is chosen on other families: 3 from 2 sources are needed, {len(families)} can be used.{left}\n"
            "For one family use its study (limbeck compare families RUNS --family NAME) or limbeck compare laws."
        )
    rules, apart = tuple(rules or candidates(families)), _apart(families)
    lenders = apart[:, None, :] & apart[None, :, :]
    every = [rule.forecasts(families, lenders) for rule in rules]
    errors = np.array([[family.are(made) for family, made in zip(families, one, strict=True)] for one in every])
    signed = [
        [float(f.are(made[k], signed=True)) for k, (f, made) in enumerate(zip(families, one, strict=True))]
        for one in every
    ]
    errors = np.where(np.isfinite(errors), errors, np.inf).swapaxes(1, 2)
    return FamilyComparison(tuple(families), rules, errors, np.array(signed), dict(skipped or {}))


def _apart(families: Sequence[Family]) -> NDArray[np.bool_]:
    """Which families are of different sources, [families, families]."""
    sources = np.array([family.source for family in families])
    return np.asarray(sources[:, None] != sources)
