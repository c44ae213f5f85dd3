"""The run table: one row per training or checkpoint, under canonical names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from limbeck.errors import RunsError, nearest

from ._bad_rows import BadRow, first_of_group, plural, refusal, run_key, unusable
from .conditions import Where, choose
from .quantities import span
from .vocabulary import COLUMNS, SETUP

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunTable:
    """Training runs as a table.

    Args:
        frame: the columns under canonical names; numbers are float64, an empty cell is null.
        source: where the table comes from, for messages.
        rows: where every row comes from ("row 17"), for messages.
        derived: columns that limbeck computed, with the formula.
        dropped: rows that were left out, with the reason.

    Example:
        >>> from limbeck.runs import read_runs
        >>> runs = read_runs({"N": [1e7, 1e8], "D": [1e9, 2e9], "loss": [4.0, 3.0]})
        >>> print(runs.summary())
        2 runs · 10 M–100 M parameters · 6e16–1e18 FLOP · loss 3–4 nats/token
        >>> runs.column("tokens"), runs.derived
        (array([1.e+09, 2.e+09]), {'flops': '6 · params · tokens'})
    """

    frame: pl.DataFrame
    source: str
    rows: pl.Series
    derived: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.columns

    def column(self, name: str) -> Array:
        """Return a column of numbers as a float64 array; an empty cell is NaN.

        Raises:
            RunsError: there is no such column, or it holds text.
        """
        self._check_present([name])
        series = self.frame[name]
        if not series.dtype.is_numeric():
            text = next(iter(series.drop_nulls()), "")
            raise RunsError(f'{self.source}: the column "{name}" holds text ("{text}"), not numbers.')
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def require(self, *names: str, skip_bad: bool = False) -> Self:
        """Return the table, proved fit for a law that reads these columns: all there, and positive where they must be.

        Args:
            names: columns that the law reads.
            skip_bad: leave rows out that lack one of them, instead of refusing.

        Raises:
            RunsError: a column is not there (with the nearest one that is), or rows lack a value.
        """
        self._check_present(names)
        for name in names:
            if name not in COLUMNS or COLUMNS[name].kind != "text":
                self.column(name)
        return self.without(unusable(self.frame, self.rows, names), skip_bad)

    def without(self, bad: Sequence[BadRow], skip_bad: bool, counting: str = "") -> Self:
        """Return the table without its bad rows.

        Raises:
            RunsError: there are bad rows and `skip_bad` is false, or no other rows are left.
        """
        if not bad:
            return self
        if not skip_bad:
            raise refusal(self.source, counting, bad)
        rest = self._keep(~self.rows.is_in([one.row for one in bad]))
        if not len(rest):
            raise refusal(self.source, counting, bad, "No row is left.")
        return replace(rest, dropped=(*self.dropped, *bad))

    def filter(self, where: Where) -> Self:
        """Return the rows that satisfy conditions such as `{"family": "opt"}` or `"tokens>=1e9"`.

        Raises:
            RunsError: a column is unknown, or no row is left.
        """
        return self._keep(choose(self.frame, where, self.source))

    def clusters(self) -> NDArray[np.int64]:
        """Return for every row the number of its run (0, 1, ...): checkpoints of one run are resampled together.

        A run is told by its name, seed and setup. In a table without run names every row is a run of its own.
        """
        if "run" not in self.columns:
            return np.arange(len(self), dtype=np.int64)
        first = first_of_group(self.frame, run_key(self.frame)).to_numpy()
        return np.unique(first, return_inverse=True)[1].astype(np.int64)

    def setups(self) -> list[dict[str, Any]]:
        """Return the distinct setups (family, recipe, tokenizer, dataset), each with its number of `rows`."""
        present = [name for name in SETUP if name in self.frame.columns]
        if not present:
            return [{"rows": len(self)}]
        return self.frame.group_by(present, maintain_order=True).agg(pl.len().alias("rows")).to_dicts()

    def summary(self) -> str:
        """Return one line: how many runs, their sizes, compute (or data) and loss, and what was dropped."""
        runs = len(np.unique(self.clusters()))
        parts = [plural(runs, "run")] + [f"{len(self)} checkpoints"] * (runs != len(self))
        held = [name for name in self.columns if self.frame[name].null_count() < len(self)]
        scale = next((name for name in ("flops", "tokens", "samples", "step") if name in held), None)
        measure = "loss" if "loss" in held else "error"
        for name, digits in (("params", None), (scale, 1 if scale == "flops" else None), (measure, 3)):
            if name in held:
                column = self.column(name)
                text = span(name, float(np.nanmin(column)), float(np.nanmax(column)), digits)
                parts.append(f"{name} {text}" if name == measure else text)
        if self.dropped:
            parts.append(f"{plural(len({one.row for one in self.dropped}), 'row')} dropped")
        return " · ".join(parts)

    def _keep(self, mask: pl.Series) -> Self:
        return replace(self, frame=self.frame.filter(mask), rows=self.rows.filter(mask))

    def _check_present(self, names: Sequence[str]) -> None:
        from .readers import RULES  # readers build tables

        absent = [name for name in names if name not in self.frame.columns]
        if absent:
            hints = "".join(_hint(name, self.frame.columns) for name in absent)
            shown = ", ".join(self.frame.columns[:15]) + (", ..." if len(self.frame.columns) > 15 else "")
            meaning = "; ".join(f"{name}: {COLUMNS[name].meaning}" for name in absent if name in COLUMNS)
            ways = "; ".join(f"{name} = {rule}" for name, rule, _ in RULES if name in absent and rule != "train_loss")
            raise RunsError(
                f"{self.source} has no column {' and no column '.join(absent)}.{hints}\n"
                f"It has: {shown}.\n"
                + (f"Needed: {meaning}.\n" if meaning else "")
                + (f"Computed where its parts are there: {ways}.\n" if ways else "")
                + f'Name it with mapping={{"their column": "{absent[0]}"}} (--map "their column={absent[0]}").'
            )


def _hint(name: str, columns: Sequence[str]) -> str:
    """Suggest columns that carry the missing name inside their own, or the one spelt most like it."""
    inside = [f'"{column}"' for column in columns if name in column.lower()]
    free = [column for column in columns if column not in COLUMNS]
    return f" Did you mean {', '.join(inside[:3])}?" if inside else nearest(name, free)
