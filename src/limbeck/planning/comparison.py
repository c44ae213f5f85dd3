"""Two methods compared by their curves: who is better at a scale that nobody has paid for yet, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting import validate
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.fitting.prediction import check_level
from limbeck.laws import Published
from limbeck.planning._forms import ONE_FLOOR, Form, Mixture, fit_forms, side_by_side, source_rows
from limbeck.planning._points import COLOURS, Points, curve_traces, method_points
from limbeck.planning._search import last_crossing
from limbeck.planning.crossover import crossings, regime, value_of_rung
from limbeck.planning.estimate import Estimate, Source, positive
from limbeck.runs import COLUMNS
from limbeck.runs.quantities import number, quantity, scientific

REACH = 4.0
"""Beyond this factor on the shorter ladder an extrapolation gets a warning: what the paper's own check covers."""


@dataclass(frozen=True)
class Target:
    """Both methods at one scale.

    Args:
        at: the scale.
        loss: of the mean run of each method there.
        gap: second minus first.
        second_better: probability that the second curve lies below the first; None without draws.
        regret: expected loss given away by choosing the first, and by choosing the second.
        verdict: name of a method, or "undecided".
    """

    at: float
    loss: tuple[Estimate, Estimate]
    gap: Estimate
    second_better: float | None
    regret: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class MethodComparison:
    """Two methods, where they cross, and which to take at each target. Build it with `compare_methods`.

    Args:
        names: of both methods.
        at: target scales.
        column, quantity: what scale and what loss are.
        curves: both curves by rows.
        points: the runs that were compared; none for laws fitted before.
        noise: standard deviation of one run of each method, relative where `log`.
        log: whether the curves were fitted to the logarithm.
        held_out: root mean square error of each method's law on the runs up to 4× beyond those it was fitted on.
        level, confidence, tolerance: see `compare_methods`.
        notes: caveats about the runs, in words.
    """

    names: tuple[str, ...]
    at: tuple[float, ...]
    column: str
    quantity: str
    curves: Mixture
    points: tuple[Points, ...] = ()
    noise: tuple[float, ...] = (0.0, 0.0)
    log: bool = True
    held_out: Mapping[str, float] | None = None
    level: float = 0.8
    confidence: float = 0.95
    tolerance: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse levels and targets without a meaning."""
        check_level(self.level)
        check_level(self.confidence)
        if len(self.names) != 2:
            raise PlanningError(f"a comparison is of two methods; given {len(self.names)}. Several: rank_methods.")
        if not all(0 < x < math.inf for x in self.at):
            raise PlanningError(f"target scales must be positive numbers; got {', '.join(f'{x:g}' for x in self.at)}.")

    def gap(self, *x: float) -> Array:
        """Return the second curve minus the first at scales, by rows, the average first: [1 + draws, k]."""
        first, second = self.curves(np.array(x))
        return np.asarray(second - first)

    def scatter(self, *x: float) -> Array:
        """Return the standard deviation of one observed gap at scales, [k]."""
        units = self.curves(np.array(x))[:, 0] if self.log else np.ones((2, len(x)))
        return np.asarray(np.hypot(*(np.array(self.noise)[:, None] * units)))

    @cached_property
    def ladder(self) -> float | None:
        """Largest scale of the shorter ladder, None where nothing was measured."""
        return min((float(p.x[-1]) for p in self.points), default=None)

    @cached_property
    def range(self) -> tuple[float, float]:
        """From the smallest run to the largest target or run: where crossings are looked for."""
        ends = [x for p in self.points for x in (p.x[0], p.x[-1])] or [min(self.at) / 1e6]
        return float(min(ends)), float(max(*ends, *self.at))

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Both methods and the verdict at every target."""
        found = []
        for x, noise in zip(self.at, self.scatter(*self.at), strict=True):
            both = self.curves(np.array([x]))[:, :, 0]
            gap = both[1] - both[0]
            draws = gap[1:] if len(gap) > 1 else gap
            regret = np.maximum(0.0, [-draws, draws]).mean(1).tolist()
            better = float((0.5 - 0.5 * np.sign(draws)).mean()) if len(gap) > 1 else None
            sure = better is not None and max(better, 1 - better) >= self.confidence
            sure &= min(regret) <= (noise if self.tolerance is None else self.tolerance)
            verdict = self.names[int(np.argmin(regret))] if sure else "undecided"
            first, second, apart = (Estimate.of(rows, self.level) for rows in (*both, gap))
            found.append(Target(float(x), (first, second), apart, better, tuple(regret), verdict))
        return tuple(found)

    @cached_property
    def crossings(self) -> tuple[float, ...]:
        """Scales at which the average curves cross."""
        return crossings(lambda x: self.gap(*x)[0], *self.range)

    @cached_property
    def crossing(self) -> tuple[Estimate | None, float | None]:
        """The last crossing with its interval over the draws that cross, and the share of draws that do.

        There is no interval where fewer than half of the draws cross, or where those cross elsewhere.
        """
        u = np.log(np.geomspace(*self.range, 513))
        gap = self.gap(*np.exp(u))
        last = np.exp(last_crossing(u, gap, gap[:, :-1] * gap[:, 1:] < 0))[1:]
        crossed = last[np.isfinite(last)]
        share = len(crossed) / len(last) if len(last) else None
        if not self.crossings:
            return None, share
        place = Estimate.of(np.array([self.crossings[-1], *crossed]), self.level)
        inside = place.lower is not None and place.upper is not None and place.lower <= place.value <= place.upper
        return place if inside and share and share >= 0.5 else Estimate(place.value), share

    @property
    def kind(self) -> str:
        """Of the crossing: "slope" where the forms that count end at one floor, "floor" where not, or "none"."""
        shared = sum(form.weight for form in self.curves.forms if form.name in ONE_FLOOR)
        return "none" if not self.crossings else "slope" if shared > 0.5 else "floor"

    @property
    def naive(self) -> str | None:
        """The better method at the largest common scale: what one would pick without curves."""
        if self.ladder is None:
            return None
        return self.names[int(np.argmin([p.at(np.array([self.ladder]))[0] for p in self.points]))]

    @cached_property
    def rungs(self) -> dict[float, float]:
        """Scale of one more pair of runs -> by how much it lowers the expected regret at an undecided last target."""
        if self.ladder is None or self.targets[-1].verdict != "undecided":
            return {}
        steps = [x for x in self.ladder * 2.0 ** np.arange(1, 7) if x < self.at[-1]]
        gaps, noise = self.gap(*steps, self.at[-1])[1:], self.scatter(*steps, self.at[-1])
        return {float(x): value_of_rung(gaps[:, k], gaps[:, -1], float(noise[k])) for k, x in enumerate(steps)}

    @cached_property
    def caveats(self) -> tuple[str, ...]:
        """What should keep a reader from trusting the verdict, in words."""
        if self.ladder is None:
            return self.notes
        notes, end = [*self.notes], self.targets[-1]
        notes += [
            f"{name}: three scales leave one degree of freedom; intervals are unreliable, add a scale"
            for name, points in zip(self.names, self.points, strict=True)
            if len(np.unique(points.x)) == 3
        ]
        if (reach := end.at / self.ladder) > REACH:
            far = f"{float(f'{reach:.2g}'):g}× beyond the shorter ladder"
            notes.append(f"{far}; such curves have been checked to {REACH:g}×")
        if end.at < max(p.x[0] for p in self.points):
            notes.append(f"{self._scale(end.at)} lies below the runs: the curves are extrapolated downwards")
        first, second = (e.value for e in end.loss)
        apart = abs(math.log(second / first)) if self.log else abs(second - first)
        if self.held_out and max(self.held_out.values()) > apart:
            errors = ", ".join(f"{name} {error:.2g}" for name, error in self.held_out.items())
            notes.append(f"held-out errors ({errors}) exceed the gap there, {apart:.2g}: the form of curve decides")
        seen = np.unique(np.concatenate([p.x[p.x <= self.ladder] for p in self.points]))
        if (np.abs(self.gap(*seen)[0]) < 2 * self.scatter(*seen)).all():
            notes.append("at every scale that was run the curves lie within noise: a crossing among them is none")
        if (mistuned := sum(p.mistuned for p in self.points)) > abs(end.gap.value):
            notes.append(f"half a step of the sweeps may cost {mistuned:.2g}, more than the gap there")
        return tuple(notes)

    def summary(self) -> str:
        """Return the verdict at every target, largest first, the crossing, the regret and the caveats as plain text."""
        lines = [self._verdict(target) for target in reversed(self.targets)]
        (place, share), end = self.crossing, self.targets[-1]
        there = "" if place is None else self._band(place, self._scale(place.value), scientific)
        often = "" if share is None else f", in {_percent(share).lstrip('= ')} of draws"
        none = f"their curves do not cross up to {self._scale(end.at)}"
        lines.append(f"they cross at {there}{often} ({self.kind})" if there else none)
        if self.naive is not None and end.second_better is not None:
            wrong = _percent(end.second_better if self.naive == self.names[0] else 1 - end.second_better)
            against = "; the verdict contradicts it" if end.verdict not in (self.naive, "undecided") else ""
            lines.append(f"the largest common scale alone picks {self.naive}: wrong with P {wrong}{against}")
        first, second = (f"{name} {regret:.1g}" for name, regret in zip(self.names, end.regret, strict=True))
        lines.append(f"expected regret at {self._scale(end.at)}: {first}, {second}")
        if self.rungs:
            best = max(self.rungs, key=lambda x: self.rungs[x] / x)
            lines.append(f"one more pair of runs at {self._scale(best)} would lower it by {self.rungs[best]:.1g}")
        forms = ", ".join(f"{form.name} {100 * form.weight:.0f} %" for form in self.curves.forms)
        return "\n".join([*lines, f"curves: {forms}", *self.caveats])

    def _verdict(self, target: Target) -> str:
        """One target in words; what stands before the first comma is its title."""
        best, p = int(target.gap.value < 0), target.second_better
        ahead, behind = (self._band(e, number(self.quantity, e.value)) for e in target.loss[:: 1 - 2 * best])
        at, losses = self._scale(target.at), f"{self.quantity} {ahead} against {behind}"
        if p is None:
            return f"undecided at {at}: {self.names[best]} is lower, {losses}; no intervals are known"
        sure = f"(P {_percent(max(p, 1 - p))}), {losses}"
        if target.verdict == "undecided":
            return f"undecided at {at}: {self.names[best]} is ahead {sure}"
        return f"{target.verdict} is better at {at} {sure}"

    def _scale(self, x: float) -> str:
        return quantity(self.column, x) if self.column in COLUMNS else f"{scientific(x)} {self.column}"

    def _band(self, e: Estimate, value: str, write: Any = "{:.3g}".format) -> str:
        if e.lower is None:
            return value
        return f"{value} ({100 * self.level:.0f} %: {write(e.lower)} – {write(e.upper)})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        plain = ("names", "column", "quantity", "crossings", "kind", "naive", "held_out", "level", "confidence")
        place, share = self.crossing
        return {name: getattr(self, name) for name in plain} | {
            "targets": [asdict(target) for target in self.targets],
            "crossing": None if place is None else place.to_dict(),
            "crossing_share": share,
            "forms": {form.name: form.weight for form in self.curves.forms},
            "rungs": [{"at": x, "value": value} for x, value in self.rungs.items()],
            "notes": list(self.caveats),
        }

    def plot(self) -> Any:
        """Draw both methods: runs as points, curves with their bands, dashed beyond the runs, and the crossing."""
        x = np.geomspace(*self.range, 97)
        traces: list[dict[str, Any]] = []
        for name, rows, points in zip(self.names, self.curves(x), self.points or (None, None), strict=True):
            traces += curve_traces(name, COLOURS[len(traces) > 0], x, rows, points, self.level)
        title = self._verdict(self.targets[-1]).partition(", ")[0]
        figure = chart(title, self.column, self.quantity, traces, log="xy")
        for at in self.crossings:
            figure.add_vline(at, line_dash="dot", line_color="grey")
        return figure


def compare_methods(
    methods: Mapping[str, Any], at: float | Sequence[float], *, bootstrap: int = 400, seed: int = 0,
    level: float = 0.8, confidence: float = 0.95, tolerance: float | None = None, **choose: Any,
) -> MethodComparison:  # fmt: skip
    """Compare two methods at scales beyond their runs, by curves whose form is averaged over.

    Every form of `planning._forms.FORMS` that the runs can carry is fitted to both methods, by least squares on the
    error itself, or on the logarithm of a loss, and resampled; forms weigh exp(-AICc/2). A method is preferred at a
    target where it is better with probability `confidence` and its expected regret is within `tolerance`.

    Args:
        methods: two names with their runs: tables, paths or columns.
        at: target scales, in the unit of the column.
        bootstrap: number of resamples.
        seed: of the resamples.
        level: nominal coverage of intervals.
        confidence: probability that a verdict needs.
        tolerance: expected regret that a verdict may have; the scatter of one observed gap by default.
        choose: which runs count, see `method_points`: column, quantity, score, frontier, sweep, skip_bad.

    Raises:
        PlanningError: not two methods, a target that is not positive, or a method with runs at fewer than three scales.
        RunsError: a column is missing, or a row is bad.

    Source: Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models and Datasets (Nezhurina et al.,
    2025, arXiv 2506.04598); averaging, regret and the value of a rung are reconstructed after Rethinking Conventional
    Wisdom in Machine Learning (Xiao, 2024, arXiv 2409.15156).

    Example:
        >>> c = np.array([1e17, 1e18, 1e19, 1e20, 1e21])
        >>> noise = 1 + 0.002 * np.array([1, -1, 1, -1, 0])
        >>> plain, new = {"flops": c, "loss": 10 * c**-0.03 * noise}, {"flops": c, "loss": 14 * c**-0.04 / noise}
        >>> found = compare_methods({"plain": plain, "new": new}, 1e22)
        >>> found.targets[0].verdict, found.naive
        ('new', 'new')
    """
    points = tuple(method_points(name, runs, **choose) for name, runs in methods.items())
    log = points[0].log
    forms = fit_forms(points, log=log, count=bootstrap, seed=seed)
    best = max(forms, key=lambda form: form.weight).fits
    noise = tuple(float(np.sqrt(np.mean(fit.noise**2))) for fit in (best[0], best[-1]))
    notes, held_out = [note for p in points for note in p.notes], {}
    for name, p, fit, sd in zip(methods, points, (best[0], best[-1]), noise, strict=False):
        if p.reuse is not None:
            state = regime(*p.reuse, sd * (float(p.y.min()) if log else 1.0))
            notes.append(f"{name}: {state} regime (data seen {p.reuse[0]:.2g}×, test minus train {p.reuse[1]:+.2g})")
        share = float(np.mean(p.x <= p.x[-1] / REACH))
        if len(best) == 2 and share > 0 and (cuts := validate(fit, (share,), resamples=20).cuts):
            held_out[name] = cuts[0].score.rmse
    return MethodComparison(
        tuple(methods), tuple(np.atleast_1d(at).tolist()), points[0].column, points[0].quantity,
        Mixture(forms, bootstrap), points, noise, log, held_out, level, confidence, tolerance, tuple(notes),
    )  # fmt: skip


def compare_curves(
    sources: Mapping[str, Source], at: float | Sequence[float], *, column: str = "flops", **options: Any
) -> MethodComparison:
    """Compare two laws that were fitted before, or published: fits with draws, or constants without an interval.

    Laws of params and tokens are compared along their compute-optimal frontiers. Where neither source has draws, the
    answer says who is lower and where they cross, but gives no verdict.

    Args:
        sources: two names with their laws.
        at: target scales.
        column: the scale.
        options: level and confidence, as in `compare_methods`.

    Raises:
        PlanningError: not two sources, different quantities, or a law that does not read the column.

    Example:
        >>> from limbeck.laws import BESIROGLU_2024, HOFFMANN_2022
        >>> found = compare_curves({"Besiroglu": BESIROGLU_2024, "Hoffmann": HOFFMANN_2022}, 1e25)
        >>> found.targets[0].verdict, found.targets[0].gap.value < 0
        ('undecided', True)
    """
    targets = {name: source.model.target for name, source in sources.items()}
    if len(set(targets.values())) > 1:
        each = " and ".join(f"{name} is a law of {target}" for name, target in targets.items())
        raise PlanningError(f"{each}: not comparable.")
    for x in np.atleast_1d(at).tolist():
        positive(target_scale=x)
    rows = [source_rows(source, column) for source in sources.values()]
    notes = [
        f"{name}: published constants, taken as exact (arXiv {s.source.arxiv}; {s.note})"
        for name, s in sources.items()
        if isinstance(s, Published)
    ]
    given = Form("as given", 1.0, partial(side_by_side, rows))
    curves = Mixture((given,), max(len(r(np.atleast_1d(at)[:1])) for r in rows) - 1)
    asked = tuple(sources), tuple(np.atleast_1d(at).tolist()), column, next(iter(targets.values()))
    return MethodComparison(*asked, curves, tolerance=math.inf, notes=tuple(notes), **options)


def _percent(share: float) -> str:
    """A probability from a few hundred draws with its relation, never quite 0 or 1."""
    return "< 1 %" if share < 0.01 else "> 99 %" if share > 0.99 else f"= {100 * share:.0f} %"
