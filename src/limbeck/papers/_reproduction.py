"""What a reproduction found: the effect, its standard error, and whether the claim holds, computed from the numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from limbeck.papers._figure import Figure

Verdict = bool | Literal["not visible"]


def verdict(mean: float, standard_error: float) -> Verdict:
    """Return whether an effect is there: the one rule of every reproduction.

    Args:
        mean: effect, positive in the direction that the paper claims.
        standard_error: of that mean; NaN where there is one measurement only.

    Returns:
        True if the effect is more than two standard errors above zero, False if it is more than two below, and
        "not visible" in between or where there is no standard error.

    Example:
        >>> verdict(1.0, 0.4), verdict(-1.0, 0.4), verdict(0.7, 0.4), verdict(1.0, float("nan"))
        (True, False, 'not visible', 'not visible')
    """
    if abs(mean) > 2 * standard_error:
        return mean > 0
    return "not visible"


@dataclass(frozen=True)
class Reproduction:
    """One paper's experiment: claim, baseline, what was measured, and whether the claim holds.

    Args:
        slug, title, claim, baseline, metric, unit: as in `Paper`.
        seeds: seeds that were run.
        quick: whether the experiment was cut down to seconds.
        effects: the effect in each replicate, positive in the claimed direction.
        checks: further criteria of success, by what they say.
        seconds: computing time of one core, over all seeds.
        details: everything else that was measured; plain numbers, lists and texts.
        notes: what a reader must know before believing it.
        figure: the picture.
        error: why the experiment crashed; then nothing was measured.
    """

    slug: str
    title: str
    claim: str
    baseline: str
    metric: str
    unit: str
    seeds: tuple[int, ...]
    quick: bool = False
    effects: tuple[float, ...] = ()
    checks: Mapping[str, bool] = field(default_factory=dict)
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    figure: Figure | None = None
    error: str | None = None

    @property
    def mean(self) -> float | None:
        """Mean effect, None after a crash."""
        return None if self.error else statistics.fmean(self.effects)

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean effect, None if there is one replicate only."""
        n = len(self.effects)
        return statistics.stdev(self.effects) / math.sqrt(n) if n > 1 else None

    @property
    def holds(self) -> Verdict | None:
        """Whether the claim holds: the effect by `verdict`, and every check. None after a crash."""
        if self.mean is None:
            return None
        effect = verdict(self.mean, math.nan if self.standard_error is None else self.standard_error)
        return False if effect is True and not all(self.checks.values()) else effect

    @property
    def effect(self) -> str:
        """The effect with its standard error and unit, with the digits it deserves."""
        from limbeck.report.numbers import significant

        if self.mean is None:
            return "–"
        error = self.standard_error
        spread = f" ± {significant(error, error)}" if error else ""
        return f"{'+' if self.mean > 0 else ''}{significant(self.mean, error)}{spread} {self.unit}".strip()

    @property
    def answer(self) -> str:
        """Whether the claim holds, in words."""
        return {None: "crashed", True: "yes", False: "no", "not visible": "not visible"}[self.holds]

    def summary(self) -> str:
        """Return the finding as plain text: claim, measurement, baseline, checks and caveats."""
        seeds = "seed" if len(self.seeds) == 1 else "seeds"
        lines = [
            f"{self.slug}: {self.answer}" + (" (quick run: a smoke test, not evidence)" if self.quick else ""),
            f"  claim     {self.claim}",
            f"  measured  {self.effect}: {self.metric}" if self.error is None else f"  error     {self.error}",
            f"  baseline  {self.baseline}",
            *(f"  {'passed' if passed else 'failed':8}  {check}" for check, passed in self.checks.items()),
            *(f"  note      {note}" for note in self.notes),
            f"  {seeds} {', '.join(map(str, self.seeds))} · {self.seconds:.0f} s of one core",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values, with `mean`, `standard_error` and `holds` computed."""
        found = {"measured": self.mean, "mean": self.mean, "standard_error": self.standard_error, "holds": self.holds}
        return asdict(self) | {"seeds": list(self.seeds), "effects": list(self.effects)} | found

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild a reproduction from `to_dict()`; what is computed is computed again."""
        given = {one.name: record[one.name] for one in fields(cls)}
        figure = given["figure"] and Figure.from_dict(given["figure"])
        sequences = {name: tuple(given[name]) for name in ("seeds", "effects", "notes")}
        return cls(**(given | sequences | {"figure": figure}))

    def plot(self) -> Any:
        """Return the picture as a plotly figure, None if the paper has none."""
        return self.figure and self.figure.plot()


def table(records: Sequence[Reproduction]) -> str:
    """Return one line per paper, and how many claims hold."""
    from rich.table import Table

    from limbeck.report.tables import render

    lines = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("paper", "effect, ours (± s.e.)", "baseline", "holds"):
        lines.add_column(header, no_wrap=header in ("paper", "holds"))
    for one in records:
        lines.add_row(one.slug, one.effect, one.baseline, one.answer)
    quick = " · quick runs are smoke tests, not evidence" if any(one.quick for one in records) else ""
    crashes = [f"{one.slug}: {one.error}" for one in records if one.error]
    return render(lines, "", *crashes, f"{counts(records)}{quick}")


def counts(records: Sequence[Reproduction]) -> str:
    """Return how many claims hold, do not, or cannot be seen, and what it took."""
    words = {"yes": "hold", "not visible": "not visible at this scale", "no": "do not hold", "crashed": "crashed"}
    known = {answer: sum(one.answer == answer for one in records) for answer in words}
    found = ", ".join(f"{count} {words[answer]}" for answer, count in known.items() if count)
    return f"of {len(records)}: {found} · {sum(one.seconds for one in records):.0f} s of one core"
