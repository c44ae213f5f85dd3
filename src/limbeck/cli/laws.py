"""`limbeck fit`, `limbeck predict` and `limbeck compare laws`: from a table of runs to a law, a number and a choice."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import limbeck as lb
from limbeck.cli.arguments import (
    LevelOption,
    MixedReader,
    RunsArgument,
    SeedOption,
    dropped,
    numbers,
    option,
    pairs,
    setting,
    shown,
)  # fmt: skip
from limbeck.errors import LimbeckError
from limbeck.runs import COLUMNS, RunTable, vocabulary_table


@shown()
def fit(
    read: MixedReader,
    runs: Annotated[str | None, typer.Argument(help="Table of runs (a file or a folder).")] = None,
    law: Annotated[str, option("Law to fit; --laws lists them.")] = "chinchilla",
    laws: Annotated[bool, option("List all laws with their formulas.", "--laws")] = False,
    columns: Annotated[bool, option("List the column names that limbeck knows.", "--columns")] = False,
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples; 0 for none.", min=0)] = 1000,
    method: Annotated[str | None, option("Resampling: pairs, residual, wild, mammen or block.")] = None,
    fix: Annotated[list[str] | None, option("Hold a parameter: --fix E=1.7. Repeatable.")] = None,
    prior: Annotated[list[str] | None, option("Believe a parameter: --prior alpha=0.4,0.1 (mean, s.d.).")] = None,
    delta: Annotated[str | None, option("Huber threshold on residuals: a number, auto, or inf (squares).")] = None,
    space: Annotated[str | None, option("Residuals: log, linear or relative.")] = None,
    holdout: Annotated[float, option("Share of the largest runs held out to check the law; 0 for none.")] = 0.3,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
    out: Annotated[Path, option("Where the fit is saved.")] = Path("fit.json"),
    plot: Annotated[Path | None, option("Write a page with plots and a planner.")] = None,
) -> Any:
    """Fit a scaling law to a table of runs.

    Example: limbeck fit runs.csv --law chinchilla --plot fit.html

    Columns may have the names people use (N, D, n_params, train_tokens, eval_loss, val/loss ...); --map names the
    others. The interval of a forecast always contains the run-to-run noise.
    """
    if laws:
        return lb.laws.catalogue(), lb.report.tables.catalogue(lb.laws.catalogue())
    if columns:
        fields = ("name", "unit", "meaning", "aliases")
        return [{field: getattr(column, field) for field in fields} for column in COLUMNS.values()], vocabulary_table()
    if runs is None:
        raise LimbeckError("which runs? Write: limbeck fit runs.csv --law chinchilla (limbeck fit --help explains).")
    chosen = lb.laws.get(law)
    table = read(runs)
    if read.skip_bad:  # what this law cannot read is dropped and named too
        chosen, table = chosen.prepare(table, skip_bad=True)
        table = table.require(*chosen.columns, chosen.target, skip_bad=True)
    resampling: dict[str, Any] = {"bootstrap": bootstrap, "method": method, "seed": seed}
    known: dict[str, Any] = {"fixed": numbers(fix or [], "parameter"), "priors": _priors(prior)}
    residuals: dict[str, Any] = {"loss": _loss(chosen, space), "delta": _delta(delta)}
    result = lb.laws.fit(chosen, table, holdout=holdout or None, **resampling, **known, **residuals)
    result.save(out)
    if plot is not None:
        from limbeck.report import ReportContent, write_report

        command = shlex.join(["limbeck", *sys.argv[1:]])
        write_report(ReportContent.of_fit(result, table, command=command, level=level), plot)
    saved = f"saved {out}" + (f" · page: {plot}" if plot else " · plot: --plot fit.html")
    text = lb.report.tables.fit_summary(result, table, level=level)
    left = dropped(table)
    facts = {"derived": list(table.derived), "dropped": left, "saved": str(out)}
    return result.to_dict(level, full=False) | facts, "\n".join([text, "", *_hint(table), *left, saved])


@shown()
def predict(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit.")],
    settings: Annotated[list[str], typer.Argument(help="One value per column of the law: params=7e9 tokens=2T.")],
    force: Annotated[bool, option("Predict beyond misaligned data all the same.", "--force")] = False,
    level: LevelOption = 0.8,
) -> Any:
    """Predict one new run from a saved fit, with the run-to-run noise in the interval.

    Example: limbeck predict fit.json params=7e9 tokens=2e12
    """
    fit, columns = replace(lb.laws.load_fit(fitted), forced=force), setting(settings)
    prediction = fit.predict(level=level, **columns)
    record: dict[str, Any] = {"law": fit.model.name, "columns": columns, "target": fit.model.target}
    for key, value in prediction.to_dict().items():
        record[key] = value[0] if key in ("mean", "lower", "upper", "extrapolation") else value
    return record, lb.report.tables.prediction(fit, prediction, columns)


@shown("Draw how often intervals hold, by how far beyond the data.")
def calibrate(
    runs: RunsArgument,
    read: MixedReader,
    law: Annotated[str, option("Law to judge; limbeck fit --laws lists them.")] = "chinchilla",
    by: Annotated[str | None, option("Column whose values each get a law of their own: family, dataset.")] = None,
    seed: SeedOption = 0,
) -> Any:
    """How far may a law be trusted on runs like yours? It has to predict the largest of them from the smaller ones.

    Example: limbeck calibrate runs.csv --law chinchilla --by family --plot calibration.html

    Every group is cut at 50, 60, 70, 80 and 90 % of its runs; errors, bias and coverage of the 50, 80 and 95 %
    intervals are collected by how far beyond the fitted runs they reach. What cannot be identified is refused.
    """
    from limbeck.planning import calibrate as judge

    return judge(read(runs), law, by=by, seed=seed)


@shown()
def compare_laws(
    runs: RunsArgument,
    read: MixedReader,
    laws: Annotated[str, option("Laws, separated by commas.")] = "chinchilla,kaplan,power",
    holdout: Annotated[str, option("What is held out: largest.")] = "largest",
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples for the bands.", min=20)] = 200,
    seed: SeedOption = 0,
) -> Any:
    """Compare laws by how well they predict the largest runs from the smaller ones, beside three simple baselines.

    Example: limbeck compare laws runs.csv --laws chinchilla,kaplan,power
    """
    if holdout != "largest":
        raise LimbeckError(f'--holdout {holdout} is not known: "largest" is (rolling origin over growing compute).')
    table, names = read(runs), [name.strip() for name in laws.split(",") if name.strip()]
    comparison = lb.laws.compare([lb.laws.get(name) for name in names], table, bootstrap=bootstrap, seed=seed)
    return comparison.to_dict(), lb.report.tables.comparison(comparison)


def _hint(table: RunTable) -> list[str]:
    """What to do where rows may be checkpoints of one training that the table does not name."""
    if "run" in table.columns or not {"params", "tokens"} <= set(table.columns):
        return []
    rows_per_size = table.frame.group_by("params").len()["len"].to_list()
    if sorted(rows_per_size)[len(rows_per_size) // 2] < 5:
        return []
    advice = "If rows are checkpoints, name their run: --map run=COLUMN (wider bands)."
    return [f"Every row counts as a run of its own. {advice}"]


def _priors(items: list[str] | None) -> dict[str, Any]:
    from limbeck.fitting import Prior

    priors = {}
    for name, value in pairs(items or [], "prior").items():
        mean, comma, sd = value.partition(",")
        try:
            priors[name] = Prior(float(mean), float(sd))
        except ValueError:
            raise LimbeckError(f"--prior {name}={value}: write mean and s.d., as in --prior {name}=0.4,0.1.") from None
        if not comma or priors[name].sd <= 0:
            raise LimbeckError(f"--prior {name}={value}: the s.d. must be positive.")
    return priors


def _loss(law: Any, space: str | None) -> Any:
    """The law's own loss in another space; None leaves it as it is."""
    from limbeck.fitting import Loss

    if space is None:
        return None
    if space not in ("log", "linear", "relative"):
        raise LimbeckError(f"--space {space} is not known: choose log, linear or relative.")
    return replace(law.preferred_loss or Loss(), space=space)


def _delta(text: str | None) -> float | Literal["auto"] | None:
    """A Huber threshold: a positive number, inf for least squares, or auto."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not threshold > 0:
        raise LimbeckError(f"--delta {text}: write a positive number, auto or inf.")
    return threshold
