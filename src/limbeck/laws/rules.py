"""Which rule to fit a family of models by: the one that predicts the largest members of all other families best.

A rule is a law, the early checkpoints that it leaves out, and what it borrows from other families. Nothing of a family
is used to choose its rule: neither its target nor its share of what the other families borrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting import Loss, Problem, minimise
from limbeck.fitting.model import Array
from limbeck.fitting.multistart import grid_starts
from limbeck.fitting.picture import chart
from limbeck.fitting.prediction import percentile_interval
from limbeck.fitting.separable import LEAST, normal_solution, solve_linear
from limbeck.laws.families import ENOUGH, Family
from limbeck.laws.law import get
from limbeck.laws.loss import Chinchilla, PowerFloor
from limbeck.runs.quantities import si

LEAST_SQUARES = Loss(math.inf, "relative")
EXPONENTS = np.linspace(0.05, 1.0, 39)
PAIRS = len(EXPONENTS), len(EXPONENTS)
ALPHA, BETA = EXPONENTS[np.indices(PAIRS).reshape(2, -1)]
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
        words = {
            self.law: True, f"{self.borrow} borrowed": self.borrow, "Huber": not math.isinf(self.loss.delta),
            f"without the first {self.cut:.0%}".replace("%", " %"): self.cut,
            f"from {si(self.cut_tokens)} tokens": self.cut_tokens,
        }  # fmt: skip
        return ", ".join(word for word, said in words.items() if said)

    def forecasts(self, families: Sequence[Family], lenders: NDArray[np.bool_]) -> list[Array]:
        """Return what it predicts for the targets, see `forecasts`."""
        return forecasts([self], families, lenders)[0]

    def profile(self, family: Family) -> tuple[Array, Array]:
        """Logarithm of the mean squared relative residual, and A over the least loss, at every pair of exponents."""
        use = self.kept(family)
        use = use if use.sum() > ENOUGH else np.ones_like(use)
        y = family.loss[use]
        powers = [family.columns[name][use] ** -EXPONENTS[:, None] / y for name in ("params", "tokens")]
        phi = np.concatenate([1 / y[None], *powers])
        length = np.sqrt((phi**2).sum(1))
        phi /= length[:, None]
        one, size, data = np.split(phi, [1, 1 + PAIRS[0]])
        first, second = np.indices(PAIRS).reshape(2, -1)
        at = np.stack([np.zeros_like(first), 1 + first, 1 + PAIRS[0] + second], 1)
        gram, right = (phi @ phi.T)[at[:, :, None], at[:, None, :]], phi.sum(1)[at]
        c = normal_solution(gram, right, np.full((len(at), 1), LEAST * len(y) ** 0.5), np.ones(3, bool), len(y))
        weights = c.reshape(*PAIRS, 3, 1)
        left = weights[:, :, 0] * one + weights[:, :, 1] * size[:, None] + weights[:, :, 2] * data - 1
        agreement = np.log(0.5 * (left**2).mean(-1).ravel())
        return agreement, c[:, 1] / length[at[:, 1]] / family.loss[family.train].min()


def forecasts(rules: Sequence[Rule], families: Sequence[Family], lenders: NDArray[np.bool_]) -> list[list[Array]]:
    """Return what rules predict for the targets of families; NaN where a rule cannot be used.

    Fits of one law and one loss are rows of one batch.

    Args:
        rules, families: all of them.
        lenders: which may lend to each, [families, sets, families].

    Returns:
        [sets of lenders, targets], for every rule and every family.
    """
    found = [[np.full((len(lend), int(one.target.sum())), np.nan) for one, lend in zip(families, lenders, strict=True)]
             for _ in rules]  # fmt: skip
    alone: dict[tuple[str, Loss], list[tuple[Array, Family, Problem, Array]]] = {}
    borrowing: list[tuple[Array, NDArray[np.bool_], _SizeTerm]] = []
    profiles: dict[tuple[float, float], list[Array]] = {}
    for rule, rows in zip(rules, found, strict=True):
        cut = (rule.cut, rule.cut_tokens)
        if rule.borrow and cut not in profiles:
            profiles[cut] = [np.array(part) for part in zip(*map(rule.profile, families), strict=True)]
        for forecast, family, lend in zip(rows, families, lenders, strict=True):
            use, some = family.train & rule.kept(family), lend.any(1)
            if not rule.borrow:
                with suppress(FittingError):
                    begun = family.begin(rule.law, use, rule.loss)
                    alone.setdefault((rule.law, rule.loss), []).append((forecast, family, *begun))
            elif use.sum() >= ENOUGH:
                agreement, terms = profiles[cut]
                best = np.argmin(lend[some] @ agreement, 1)
                if rule.borrow == "exponents":
                    forecast[some] = _with_exponents(family, use, best)
                else:
                    term = np.array([np.median(terms[on, k]) for on, k in zip(lend[some], best, strict=True)])
                    borrowing.append((forecast, some, _SizeTerm.of(family, use, term, ALPHA[best])))
    for (law, _), fits in alone.items():
        _fit_alone(law, fits)
    _fit_size_terms(borrowing)
    return found


def _fit_alone(law: str, fits: list[tuple[Array, Family, Problem, Array]]) -> None:
    """Minimise every problem from its start and fill in its forecast."""
    stack, rows = Problem.stack([problem for *_, problem, _ in fits]), np.arange(len(fits))
    first = minimise(stack, np.array([start for *_, start in fits]), rows, tolerance=1e-9)
    then = minimise(stack, first.z, rows, damping=0.01)
    natural = stack.natural(np.where((then.objective < first.objective)[:, None], then.z, first.z), rows)
    for k, (forecast, family, *_) in enumerate(fits):
        if np.isfinite(first.objective[k]):
            parameters = {name: float(values[k]) for name, values in natural.items()}
            forecast[:] = get(law)(parameters, **family.at(family.target, law))


def _with_exponents(family: Family, use: NDArray[np.bool_], best: NDArray[np.int_]) -> Array:
    """What the least squares of some checkpoints say for given exponents, [rows, targets]."""
    problem = Problem.build(Chinchilla(), family.at(use, "chinchilla"), family.loss[use], loss=LEAST_SQUARES)
    z, rows = np.zeros((len(best), len(problem.free))), np.zeros(len(best), int)
    z[:, [problem.free.index("alpha"), problem.free.index("beta")]] = np.stack([ALPHA[best], BETA[best]], 1)
    natural = problem.natural(solve_linear(problem, z, rows))
    return Chinchilla().by_rows(natural, family.at(family.target, "chinchilla"))


@dataclass(frozen=True)
class _SizeTerm:
    """E + B/D^beta for the loss less a borrowed A/N^alpha, on the largest models, one problem a pair (A, alpha)."""

    problems: list[Problem]
    data: Array
    borrowed: Array
    back: NDArray[np.int_]

    @classmethod
    def of(cls, family: Family, use: NDArray[np.bool_], term: Array, alpha: Array) -> _SizeTerm:
        sizes = np.unique(family.size[use])[::-1]
        use = use & (family.size >= next(s for s in sizes if (use & (family.size >= s)).sum() >= ENOUGH))
        pairs, back = np.unique(np.stack([term, alpha], 1), axis=0, return_inverse=True)
        borrowed = family.loss[family.train].min() * pairs[:, :1] * family.size ** -pairs[:, 1:]
        y, loss = family.loss[use], Loss(math.inf, "linear")
        one = Problem.build(PowerFloor("tokens"), {"tokens": family.data[use]}, y, loss=loss, weights=y**-2.0)
        problems = [replace(one, target=y - row) for row in borrowed[:, use]]
        return cls(problems, family.data[family.target], borrowed[:, family.target], back.reshape(-1))


def _fit_size_terms(jobs: list[tuple[Array, NDArray[np.bool_], _SizeTerm]]) -> None:
    """Minimise every problem from a grid of starts and fill in the forecasts."""
    if not jobs:
        return
    problems = [problem for *_, job in jobs for problem in job.problems]
    stack, grid = Problem.stack(problems), grid_starts(problems[0])
    index = np.repeat(np.arange(len(problems)), len(grid))
    starts = solve_linear(stack, np.tile(grid, (len(problems), 1)), index)
    ends = minimise(stack, starts, index, damping=0.1, tolerance=1e-9)
    rows = np.arange(len(problems))
    natural = stack.natural(ends.z[ends.objective.reshape(-1, len(grid)).argmin(1) + len(grid) * rows], rows)
    first = 0
    for forecast, some, job in jobs:
        place = slice(first, first := first + len(job.problems))
        mine = {name: values[place] for name, values in natural.items()}
        forecast[some] = (PowerFloor("tokens").by_rows(mine, {"tokens": job.data}) + job.borrowed)[job.back]


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
    losses = LEAST_SQUARES, Loss()
    return tuple(Rule(name, loss=loss, **cut) for name in names for loss in losses for cut in CUTS[::2])


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

    @property
    def simple(self) -> dict[str, Array]:
        """Errors of what a law must beat, [families] each."""
        each = [family.baselines() for family in self.families]
        return {name: np.array([one[name] for one in each]) for name in each[0]}

    def medians(self) -> dict[str, float]:
        """Return the median ARE over the families: of the chosen rules and of the baselines."""
        return {name: float(np.median(errors)) for name, errors in {"chosen": self.are, **self.simple}.items()}

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

    def plot(self) -> Any:
        """Draw the error of every family's rule beside those of the baselines."""
        names = [f"{family.name}, {family.scale_up:.3g}× " for family in self.families]
        errors = {"the rule that the others chose": self.are, **self.simple}
        marks = [{"x": 100 * np.array(e), "y": names, "name": name, "mode": "markers"} for name, e in errors.items()]
        chosen, best = (100 * self.medians()[name] for name in ("chosen", "best loss"))
        title = f"Median error {chosen:.2g} %, of the best loss so far {best:.2g} %"
        figure = chart(title, "error at the largest model, %", "", marks, log="x")
        return figure.update_yaxes(automargin=True, autorange="reversed")

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
    every = forecasts(rules, families, lenders)
    errors = np.array([[family.are(made) for family, made in zip(families, one, strict=True)] for one in every])
    signed = [[f.are(one[k][k], signed=True) for k, f in enumerate(families)] for one in every]
    errors = np.where(np.isfinite(errors), errors, np.inf).swapaxes(1, 2)
    return FamilyComparison(tuple(families), rules, errors, np.array(signed), dict(skipped or {}))


def _apart(families: Sequence[Family]) -> NDArray[np.bool_]:
    """Which families are of different sources, [families, families]."""
    sources = np.array([family.source for family in families])
    return np.asarray(sources[:, None] != sources)
