from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, fit, minimise, profile
from limbeck.laws import component_sparsity, fit_capacity_gap, optimal_student, optimal_teacher


def sweep(best, sizes, factors, noise=0.0, seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    s, f, _ = (a.ravel() for a in np.meshgrid(sizes, factors, np.arange(seeds), indexing="ij"))
    t = s * f
    loss = 2 + 0.05 * (np.log(t) - np.log(best(s))) ** 2 + noise * rng.standard_normal(len(s))
    return s, t, loss


SIZES = np.array([1e8, 2e8, 4e8, 8e8, 1.6e9])
FACTORS = np.array([1.0, 1.5, 2.2, 3.3, 5.0, 7.5])


def test_published_law():
    assert_allclose(optimal_teacher(3000e6 - 1), 7482.5e6, rtol=1e-5)
    assert_allclose(optimal_student(optimal_teacher(1e9)), 1e9, rtol=1e-12)
    with pytest.warns(UserWarning, match="outside"):
        assert optimal_teacher(5e6) == 5e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimal_teacher(1e9)


def test_component_sparsity():
    assert_allclose(component_sparsity(0.6), 0.36754, atol=5e-6)
    p = np.linspace(0, 0.95, 20)
    assert_allclose((1 - component_sparsity(p)) ** 2, 1 - p, rtol=1e-12)


def test_synthetic_sweep_gives_the_ratio_back():
    found = fit_capacity_gap(*sweep(lambda s: 2.5 * s, SIZES, FACTORS, noise=0.0005))
    assert [b.flag for b in found.best] == [""] * 5
    ratio = next(f for f in found.forms if f.form == "a S").parameters["a"]
    assert abs(ratio / 2.5 - 1) < 0.05
    assert all(0 < b.log_sd < 0.2 for b in found.best)
    assert all(b.largest_is_best == 0 for b in found.best)
    assert found.forms[0].form == "a S" and found.distinguishable
    few = fit_capacity_gap(*sweep(lambda s: 2.5 * s, SIZES[:4], FACTORS, noise=0.0005))
    assert not few.distinguishable and "cannot be told apart" in few.summary()


def test_a_clear_power_is_told_from_a_ratio():
    found = fit_capacity_gap(*sweep(lambda s: 2.5 * s * (s / 4e8) ** -0.3, SIZES, FACTORS, noise=1e-5))
    assert found.forms[0].form == "a S^gamma"
    assert_allclose(found.forms[0].parameters["gamma"], 0.7, atol=1e-3)
    assert found.distinguishable


def test_monotone_sweep_is_not_bracketed():
    s, t, _ = sweep(lambda s: s, SIZES[:2], FACTORS)
    found = fit_capacity_gap(s, t, 3 - 0.1 * np.log(t / s) + 0.005 * np.log(t / s) ** 2)
    assert [b.teacher_params for b in found.best] == [None, None]
    assert all("largest teacher is best" in b.flag and b.largest_is_best == 1.0 for b in found.best)
    assert found.forms == () and "not bracketed" in found.summary()


def test_four_teachers_are_needed():
    with pytest.raises(FittingError, match="3 teacher sizes: four or more"):
        fit_capacity_gap(*sweep(lambda s: 2 * s, SIZES[:1], FACTORS[:3]))


def test_measured_pilot(data_folder):
    """Three seeds of one student: an interior optimum near 7 times the student; the largest teacher is never best."""
    table = pl.read_csv(data_folder / "capacity-gap-pilot" / "pilot.csv")
    found = fit_capacity_gap(
        table["student_params"].to_numpy(), table["teacher_params"].to_numpy(), table["student_val_ce_nats"].to_numpy()
    )
    assert_allclose(found.best[0].teacher_params / 838, 7.2, atol=0.1)
    assert found.best[0].largest_is_best < 0.5


@pytest.mark.parametrize(
    "name", [n for n in laws.names() if set(laws.get(n).linear) == set(laws.get(n).parameter_names)]
)
def test_laws_that_are_linear_in_all_parameters_are_fitted_alike_in_any_unit(name):
    law = laws.get(name)
    rng = np.random.default_rng(0)
    columns = {column: np.geomspace(5e7, 3e9, 9) for column in law.columns}
    y = (2.498 * columns[law.columns[0]] - 11.498e6) * np.exp(0.1 * rng.standard_t(2, 9))
    first, *others = (fit(law, columns, unit * y, bootstrap=0) for unit in (1.0, 1e9, 1e-9))
    assert first.starts.reached > first.starts.total / 2
    for other, unit in zip(others, (1e9, 1e-9), strict=True):
        assert other.objective == pytest.approx(first.objective, rel=1e-11)
        # the objective, compared in double precision, hides changes of the law below 1e-8
        assert_allclose(other.value(**columns), unit * first.value(**columns), rtol=2e-8)
        assert other.identifiability.identified == first.identifiability.identified
    lines = minimise(first.problem, rng.normal(first.z, 0.3, (200, len(first.z))), np.zeros(200, int)).objective
    assert first.objective <= lines[np.isfinite(lines)].min() * (1 + 1e-12)


def test_a_profile_of_the_offset_is_as_wide_as_the_data_leave_it():
    s = np.geomspace(5e7, 3e9, 12)
    y = (2.498 * s + 3e8) * np.exp(0.05 * np.random.default_rng(1).standard_normal(12))
    fitted = fit(laws.CapacityGap(), {"params": s}, y, loss=SQUARED, bootstrap=400)
    low, high = profile(fitted, "b").interval(0.8)
    assert low < fitted.parameters["b"] < high
    assert high - low == pytest.approx(np.subtract(*fitted.intervals(0.8)["b"][::-1]), rel=0.4)
