"""The other half of the circle: short distillations from several teachers, the choice, the forecast of the long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck import laws
from limbeck.fitting import SQUARED, Fit
from limbeck.fitting.hierarchical import NoiseComponents, hierarchical_draws
from limbeck.planning import Shortlist
from limbeck.study.design import Design
from limbeck.study.forecast import Forecast


def fit_student(rows: Sequence[dict[str, Any]], noise: NoiseComponents, design: Design, seed: int) -> Fit:
    """Fit the curve of one student under one teacher to its short runs.

    Args:
        rows: run records of the short distillations, with the teacher's loss.
        noise: run-to-run noise, from the ladder: one trunk says nothing about it.
        design: prior, form error and number of draws.
        seed: of the draws.
    """
    curve = laws.StudentCurve(teacher_loss=float(rows[0]["teacher_loss"]))
    columns = {name: [float(row[name]) for row in rows] for name in ("tokens", "loss")}
    fit = laws.fit(
        curve,
        {**columns, "run": [str(row["run"]) for row in rows]},
        loss=SQUARED,
        priors=design.student_priors,
        prior_noise=design.student_residual,
        bootstrap=0,
        seed=seed,
    )
    return hierarchical_draws(fit, noise, design.draws, form=design.form_error, seed=seed)


def forecast_student(
    shortlist: Shortlist, curves: Mapping[str, Fit], rows: Mapping[str, Sequence[dict[str, Any]]]
) -> Forecast:
    """Predict the long distillation from the chosen teacher.

    Args:
        shortlist: the ranked teachers.
        curves, rows: fit and short runs by teacher.
    """
    best = shortlist.best
    return Forecast(
        name="student",
        predicted=best.loss.value,
        lower=best.loss.lower,
        upper=best.loss.upper,
        level=best.loss.level,
        extrapolation=best.extrapolation,
        basis={
            "law": curves[best.name].model.name,
            "teacher": best.name,
            "teacher_loss": best.teacher_loss,
            "tokens": shortlist.tokens,
            "parameters": curves[best.name].parameters,
            "priors": {name: [p.mean, p.sd] for name, p in curves[best.name].priors.items()},
            "short_runs": {
                name: [{"tokens": row["tokens"], "loss": row["loss"]} for row in runs] for name, runs in rows.items()
            },
            "shortlist": shortlist.to_dict(),
        },
    )
