"""The run table: one row per training or checkpoint, under canonical names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from limbeck.errors import RunsError, nearest

from . import _checks
from ._tables import Problem
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
    dropped: tuple[Problem, ...] = ()

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
            raise RunsError(f'{self.source}: the column "{name}" holds text ("{series.drop_nulls()[0]}"), not numbers.')
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()

    def require(self, *names: str, skip_bad: bool = False) -> RunTable:
        """Return the table, proved fit for a law that reads these columns: all there, and positive where they must be.

        Args:
            names: columns that the law reads.
            skip_bad: leave rows out that lack one of them, instead of refusing.

        Raises:
            RunsError: a column is not there (with the nearest one that is), or rows lack a value.
        """
        self._check_present(names)
        for name in names:
            if name not in COLUMNS or not COLUMNS[name].is_text:
                self.column(name)
        problems = _checks.missing(self.frame, self.rows, names) + _checks.not_positive(self.frame, self.rows, names)
        return self.without(problems, skip_bad)

    def without(self, problems: Sequence[Problem], skip_bad: bool, counting: str = "") -> RunTable:
        """Return the table without its bad rows.

        Raises:
            RunsError: there are bad rows and `skip_bad` is false, or no other rows are left.
        """
        if not problems:
            return self
        bad = self.rows.is_in([problem.row for problem in problems])
        count = len({problem.row for problem in problems})
        head = f"{self.source}: {count} row{'s' * (count != 1)} cannot be used" + (f" ({counting})" if counting else "")
        text = f"{head}\n{_checks.listing(problems)}"
        if not skip_bad:
            raise RunsError(f"{text}\n{_checks.advice(problems, self.frame)}")
        if bad.all():
            raise RunsError(f"{text}\nNo row is left.\n{_checks.advice(problems, self.frame)}")
        return replace(
            self, frame=self.frame.filter(~bad), rows=self.rows.filter(~bad), dropped=(*self.dropped, *problems)
        )

    def filter(self, where: Where) -> RunTable:
        """Return the rows that satisfy conditions such as `{"family": "opt"}` or `"tokens>=1e9"`.

        Raises:
            RunsError: a column is unknown, or no row is left.
        """
        kept = choose(self.frame, where, self.source)
        return replace(self, frame=self.frame.filter(kept), rows=self.rows.filter(kept))

    def clusters(self) -> NDArray[np.int64]:
        """Return for every row the number of its run (0, 1, ...): checkpoints of one run are resampled together.

        A run is told by its name, seed and setup. In a table without run names every row is a run of its own.
        """
        if "run" not in self.frame.columns:
            return np.arange(len(self), dtype=np.int64)
        key = [name for name in ("run", "seed", *SETUP) if name in self.frame.columns]
        return _checks.first_of_group(self.frame, key).rank("dense").cast(pl.Int64).to_numpy() - 1

    def final(self) -> RunTable:
        """Return the last checkpoint of every run."""
        progress = next((name for name in _checks.PROGRESS if name in self.frame.columns), None)
        if progress is None or "run" not in self.frame.columns:
            return self
        run = pl.Series(self.clusters())
        last = self.frame.select(pl.col(progress).eq_missing(pl.col(progress).max().over(run))).to_series()
        return replace(self, frame=self.frame.filter(last), rows=self.rows.filter(last))

    def setups(self) -> list[dict[str, Any]]:
        """Return the distinct setups (family, recipe, tokenizer, dataset), each with its number of `rows`."""
        present = [name for name in SETUP if name in self.frame.columns]
        if not present:
            return [{"rows": len(self)}]
        return self.frame.group_by(present, maintain_order=True).agg(pl.len().alias("rows")).to_dicts()

    def summary(self) -> str:
        """Return one line: how many runs, their sizes, compute (or data) and loss, and what was dropped."""
        runs = len(np.unique(self.clusters()))
        parts = [f"{runs} run{'s' * (runs != 1)}"]
        if runs != len(self):
            parts.append(f"{len(self)} checkpoints")
        scale = next((name for name in ("flops", "tokens", "samples", "step") if self._has(name)), None)
        for name in ("params", scale, "loss" if self._has("loss") else "error"):
            if name and self._has(name):
                low, high = float(np.nanmin(self.column(name))), float(np.nanmax(self.column(name)))
                text = span(name, low, high, 3 if name in ("loss", "error") else 1 if name == "flops" else None)
                parts.append(f"{name} {text}" if name in ("loss", "error") else text)
        if self.dropped:
            count = len({problem.row for problem in self.dropped})
            parts.append(f"{count} row{'s' * (count != 1)} dropped")
        return " · ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain data for JSON."""
        return {
            "source": self.source,
            "columns": self.frame.to_dict(as_series=False),
            "rows": self.rows.to_list(),
            "derived": dict(self.derived),
            "dropped": [vars(problem) for problem in self.dropped],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunTable:
        """Rebuild a table from `to_dict`."""
        text = {name for name, values in data["columns"].items() if any(isinstance(v, str) for v in values)}
        text |= {name for name in data["columns"] if name in COLUMNS and COLUMNS[name].is_text}
        types = {name: pl.String if name in text else pl.Float64 for name in data["columns"]}
        return cls(
            frame=pl.DataFrame(data["columns"], schema=types),
            source=data["source"],
            rows=pl.Series(data["rows"], dtype=pl.String),
            derived=dict(data["derived"]),
            dropped=tuple(Problem(**problem) for problem in data["dropped"]),
        )

    def _has(self, name: str) -> bool:
        return name in self.frame.columns and self.frame[name].null_count() < len(self)

    def _check_present(self, names: Sequence[str]) -> None:
        absent = [name for name in names if name not in self.frame.columns]
        if absent:
            hints = "".join(_hint(name, self.frame.columns) for name in absent)
            shown = ", ".join(self.frame.columns[:15]) + (", ..." if len(self.frame.columns) > 15 else "")
            meaning = "; ".join(f"{name}: {COLUMNS[name].meaning}" for name in absent if name in COLUMNS)
            raise RunsError(
                f"{self.source} has no column {' and no column '.join(absent)}.{hints}\n"
                f"It has: {shown}.\n"
                + (f"Needed: {meaning}.\n" if meaning else "")
                + f'Name it with mapping={{"their column": "{absent[0]}"}} (--map "their column={absent[0]}").'
            )


def _hint(name: str, columns: Sequence[str]) -> str:
    """Suggest columns that carry the missing name inside their own, or the one spelt most like it."""
    inside = [f'"{column}"' for column in columns if name in column.lower()]
    free = [column for column in columns if column not in COLUMNS]
    return f" Did you mean {', '.join(inside[:3])}?" if inside else nearest(name, free)
