"""The other half of the circle: short distillations from several teachers, the choice, the forecast of the long one."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck import laws
from limbeck.fitting import SQUARED, Fit
from limbeck.fitting.hierarchical import NoiseComponents, hierarchical_draws
from limbeck.planning import Shortlist
from limbeck.study.design import Design
from limbeck.study.forecast import Forecast
from limbeck.study.ladder import plain_priors


def fit_student(rows: Sequence[dict[str, Any]], noise: NoiseComponents, design: Design, seed: int) -> Fit:
    """Fit the curve of one student under one teacher to its short runs.

    Args:
        rows: run records of the short distillations, with the teacher's loss.
        noise: run-to-run noise, from the ladder: one trunk says nothing about it.
        design: prior, form error and number of draws.
        seed: of the draws.
    """
    curve = laws.StudentCurve(teacher_loss=float(rows[0]["teacher_loss"]))
    columns = {name: [row[name] for row in rows] for name in ("tokens", "loss", "run")}
    belief: dict[str, Any] = {"priors": design.student_priors, "prior_noise": design.student_residual}
    fit = laws.fit(curve, columns, loss=SQUARED, bootstrap=0, seed=seed, **belief)
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
    fit, loss = curves[best.name], best.loss
    short = {name: [{key: row[key] for key in ("tokens", "loss")} for row in runs] for name, runs in rows.items()}
    basis = {
        "law": fit.model.name, "teacher": best.name, "teacher_loss": best.teacher_loss, "tokens": shortlist.tokens,
        "parameters": fit.parameters, "priors": plain_priors(fit), "short_runs": short,
        "shortlist": shortlist.to_dict(),
    }  # fmt: skip
    return Forecast("student", loss.value, loss.lower, loss.upper, loss.level, best.extrapolation, basis)
