"""Published accuracies read with care: copied baselines, diverged runs, other recipes, gains without error bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from limbeck.errors import PlanningError
from limbeck.fitting.picture import chart
from limbeck.planning.estimate import Plan
from limbeck.runs import read_runs

PAIR = ["dataset", "teacher", "student"]
COLUMNS = {*PAIR, "method", "top1", "source"}
"""What tells a published table."""
SAME = 0.005
"""Accuracies closer than this, in points, are equal to two decimals."""
COPIED = "copied, not re-run: {method} of {source} is that of {other} to two decimals in {same} of {values} values"
LOST = "diverged, left out: {method} {top1:g} %, {pair} ({source}; student alone {alone:g})"
NAME = "{method}, {pairs}, {source} {note}"
SINGLE = "{method} over {base}: {mean:+.2f} ({largest_of} alone; {source} {note})"
GAIN = (
    "{method} over {base}: {mean:+.2f} ± {error:.2f} over {count} {pairs} ({source} {note}; largest {largest:+.2f}, "
    "{largest_of}; median of the others {others:+.2f})"
)
ALIKE = 0.05
"""Students trained alone by one recipe differ by less than this, in points: a copied number and its rounding."""


@dataclass(frozen=True)
class PublishedComparison(Plan):
    """What a table of published accuracies can and cannot say.

    Args:
        copied: source, other, method, values that both list, and how many are equal to two decimals.
        diverged: rows below half of the student trained alone; left out of everything else.
        recipes: sources whose students trained alone agree; rows are never ranked across recipes.
        gains: source, note, pairs (same or cross family), base, method, mean gain in points, error (standard error over
            pairs, not over seeds), count, largest gain and its pair, median of the others; each pair and its value.
        notes: what limits the answer, in words.
    """

    copied: tuple[dict[str, Any], ...]
    diverged: tuple[dict[str, Any], ...]
    recipes: tuple[tuple[str, ...], ...]
    gains: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        lines = [COPIED.format(**row) for row in self.copied] + [LOST.format(**row) for row in self.diverged]
        if len(self.recipes) > 1:
            groups = " | ".join(map(", ".join, self.recipes))
            lines.append(f"students trained alone do not agree, never ranked together: {groups}")
        return lines + [(GAIN if row["count"] > 1 else SINGLE).format(**row) for row in self.gains]

    def plot(self) -> Any:
        """Draw the gain of every pair."""
        places = ((NAME.format(**g), g["each"], g["values"]) for g in self.gains)
        traces = [{"name": name, "x": x, "y": y, "mode": "markers"} for name, x, y in places]
        title = f"{len(self.gains)} published gains, no error bars over seeds: not ranked"
        return chart(title, "", "gain, points", traces).add_hline(0, line_dash="dot")


def compare_published(runs: Any) -> PublishedComparison:
    """Say what a table of published accuracies shows, without a rank: differences without seeds have no error bars.

    Gains are those of a method `X+Y` over `X` in the same table of the same source. Two networks are of one family if
    their names begin with the same letters.

    Args:
        runs: what `read_runs` reads: `dataset`, `teacher`, `student`, `method`, `top1` (percent), `source`; also
            `student_top1` (trained alone, in the same source), `std` and `note` (where in the source).

    Raises:
        PlanningError: a column is missing.

    Example:
        >>> common = {"dataset": "c", "teacher": "vgg13", "student": "vgg8", "student_top1": 70.4}
        >>> rows = [common | {"method": m, "top1": t, "source": s} for m, t, s in
        ...         [("KD", 73.0, "A"), ("KD", 73.0, "B"), ("KD+Z", 74.4, "B"), ("RKD", 11.3, "B")]]
        >>> found = compare_published(rows)
        >>> round(found.gains[0]["mean"], 2), found.diverged[0]["method"], found.recipes
        (1.4, 'RKD', (('A', 'B'),))
    """
    table = read_runs(runs, mix_setups=True)
    if missing := sorted(COLUMNS - set(table.columns)):
        raise PlanningError(f"{table.source} has no column {' and no column '.join(missing)}: no published table.")
    optional = {"note": "", "std": None, "student_top1": None}
    frame = table.frame.with_columns(pl.lit(v).alias(k) for k, v in optional.items() if k not in table.columns)
    teacher, student = (pl.col(one).str.to_lowercase().str.extract("^([a-z]+)") for one in ("teacher", "student"))
    kind = pl.when(teacher == student).then(pl.lit("same-family pairs")).otherwise(pl.lit("cross-family pairs"))
    alone = pl.coalesce("student_top1", pl.col("top1").median().over(PAIR))
    pair, base = pl.format("{} → {}", "teacher", "student"), pl.col("method").str.extract(r"^(.+)\+[^+]+$")
    frame = frame.with_columns(pl.col("note").fill_null(""), alone=alone, pairs=kind, pair=pair, base=base)
    sound = frame.filter(pl.col("top1") >= pl.col("alone") / 2)
    both = sound.join(sound, on=[*PAIR, "method"], suffix="_of").filter(pl.col("source") < pl.col("source_of"))
    counts = {"same": ((pl.col("top1") - pl.col("top1_of")).abs() < SAME).sum(), "values": pl.len()}
    copied = both.group_by("source", "method", other="source_of", maintain_order=True).agg(**counts)
    copied = copied.filter(pl.col("same") > 1, 2 * pl.col("same") >= pl.col("values"))
    where = [*PAIR, "source", "note"]
    over = sound.join(sound, left_on=[*where, "base"], right_on=[*where, "method"], suffix="_of")
    over = over.with_columns(gain=pl.col("top1") - pl.col("top1_of"))
    key, gain = ["source", "note", "pairs", "base", "method"], pl.col("gain")
    numbers = {
        "mean": gain.mean(), "error": gain.std() / pl.len().sqrt(), "count": pl.len(), "largest": gain.first(),
        "largest_of": pl.col("pair").first(), "others": gain.slice(1).median(), "each": pl.col("pair"), "values": gain,
    }  # fmt: skip
    gains = over.sort(*key, -gain).group_by(key, maintain_order=True).agg(**numbers)
    told = f"{frame['std'].null_count()} of {len(frame)} rows have no std, and no row says over how many seeds"
    return PublishedComparison(
        tuple(copied.to_dicts()), tuple(frame.filter(pl.col("top1") < pl.col("alone") / 2).to_dicts()),
        _recipes(frame), tuple(gains.to_dicts()), (f"no error bars: not ranked ({told}).",),
    )  # fmt: skip


def _recipes(frame: pl.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Sources in groups: each agrees with one of its group on every student that both trained alone."""
    alone: dict[str, dict[Any, float]] = {source: {} for source in sorted(frame["source"].unique())}
    for source, *student, value in frame.select("source", "dataset", "student", "student_top1").drop_nulls().rows():
        alone[source][tuple(student)] = value
    groups: list[list[str]] = []
    for source, mine in alone.items():
        gaps = {o: [abs(mine[k] - theirs[k]) for k in mine.keys() & theirs.keys()] for o, theirs in alone.items()}
        agrees = {other for other, found in gaps.items() if found and max(found) < ALIKE}
        home = next((group for group in groups if agrees & set(group)), None)
        groups.append([source]) if home is None else home.append(source)
    return tuple(map(tuple, groups))
