from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck import fitting, laws
from limbeck.fitting import SQUARED, Prior
from limbeck.laws import DISTILLATION_2025, SUPERVISED_2025, Distillation, SupervisedLoss, forward_flops


def student(params, tokens, teacher_loss):
    return DISTILLATION_2025.value(params=params, tokens=tokens, teacher_loss=teacher_loss)


def test_limits():
    teachers = np.array([2.5, 3.0, 4.0])
    assert_allclose(student(1e30, 1e30, teachers), teachers, atol=1e-6)
    assert_allclose(student(1e9, 2e10, 50.0), 50.0, atol=1e-3)
    assert (student(1e9, 2e10, np.geomspace(1.3, 3, 50)) > np.geomspace(1.3, 3, 50)).all()


def test_a_teacher_can_be_too_good():
    teachers = np.linspace(1.25, 3.0, 400)
    slope = np.sign(np.diff(student(3e8, 1e12, teachers)))
    assert (np.diff(slope) != 0).sum() == 1 and slope[0] < 0 < slope[-1]
    assert_allclose(student(3e8, 1e12, [2.158, 1.6]), [2.3319, 2.4844], atol=1e-4)


def test_more_student_and_more_data_help_on_the_published_range():
    sizes, tokens = np.geomspace(1.5e8, 1e10, 20), np.geomspace(5e9, 5e11, 20)
    loss = student(sizes[:, None], tokens[None, :], 1.9)
    assert (np.diff(loss, axis=0) < 0).all() and (np.diff(loss, axis=1) < 0).all()


@pytest.mark.parametrize(("params", "gigaflops"), [(0.1028e9, 0.340), (7.747e9, 16.99)])
def test_forward_cost_of_published_models(params, gigaflops):
    assert_allclose(forward_flops(params), gigaflops * 1e9, rtol=5e-3)


def test_forward_cost_tends_to_two_flops_a_parameter():
    assert_allclose(forward_flops(1e24) / 2e24, 1.0, rtol=1e-4)


def test_supervised_loss_of_other_laws():
    p = {"E": 1.7, "A": 400.0, "B": 500.0, "alpha": 0.34, "beta": 0.28}
    assert_allclose(SupervisedLoss.of(p)(1e9, 2e10), laws.Chinchilla()(p, params=1e9, tokens=2e10), rtol=1e-12)
    q = {"E": 1.7, "A": 100.0, "B": 300.0, "alpha": 0.25}
    assert_allclose(SupervisedLoss.of(q)(1e9, 2e10), laws.Overtraining()(q, params=1e9, tokens=2e10), rtol=1e-12)
    assert_allclose(SupervisedLoss()(1e9, 2e10), SUPERVISED_2025.value(params=1e9, tokens=2e10), rtol=1e-12)


def simulated(noise, count=400, seed=0):
    rng = np.random.default_rng(seed)
    n, d = (
        np.exp(rng.uniform(np.log(1.5e8), np.log(1e10), count)),
        np.exp(rng.uniform(np.log(3e9), np.log(5e11), count)),
    )
    teacher = rng.uniform(1.7, 3.0, count)
    return (
        {"params": n, "tokens": d, "teacher_loss": teacher},
        student(n, d, teacher) * np.exp(noise * rng.standard_normal(count)),
    )


def test_predictions_are_recovered_from_noisy_runs():
    columns, loss = simulated(0.003)
    fit = fitting.fit(Distillation(), columns, loss, loss=SQUARED, bootstrap=0)
    assert np.sqrt(np.mean(np.log(fit.value(**columns) / loss) ** 2)) <= 1.1 * 0.003
    fresh, _ = simulated(0.0, seed=1)
    # 9 parameters on 400 runs: expected error of the mean prediction 0.003 sqrt(9/400) = 0.00045
    assert np.sqrt(np.mean(np.log(fit.value(**fresh) / student(**fresh)) ** 2)) < 0.001


def test_good_students_are_predicted_from_worse_ones():
    columns, loss = simulated(0.003)
    worse = loss >= 2.3
    fit = fitting.fit(Distillation(), {k: v[worse] for k, v in columns.items()}, loss[worse], loss=SQUARED, bootstrap=0)
    rest = {k: v[~worse] for k, v in columns.items()}
    assert (~worse).sum() > 50
    assert np.mean(np.abs(fit.value(**rest) / loss[~worse] - 1)) < 0.01


def test_borrowed_constants_and_beliefs():
    columns, loss = simulated(0.003, count=12)
    borrowed = {k: v for k, v in DISTILLATION_2025.parameters.items() if k in ("c0", "c1", "f1", "d1", "gamma")}
    fit = fitting.fit(Distillation(), columns, loss, fixed=borrowed, bootstrap=0, loss=SQUARED)
    assert all(fit.parameters[k] == v for k, v in borrowed.items())
    assert fit.free == ("A", "B", "alpha", "beta")
    assert np.sqrt(np.mean(np.log(fit.value(**columns) / loss) ** 2)) < 0.005
    wide = {k: Prior(v, 0.3) for k, v in DISTILLATION_2025.parameters.items() if k in ("d1", "f1")}
    rest = {k: v for k, v in borrowed.items() if k not in wide}
    believed = fitting.fit(Distillation(), columns, loss, fixed=rest, priors=wide, bootstrap=0, loss=SQUARED)
    assert 0.8 < believed.parameters["d1"] < 2.0


def test_law_with_its_own_supervised_part_survives_a_file(tmp_path):
    own = Distillation(SupervisedLoss(E=0.9, A=20.0, B=80.0, alpha=0.3, beta=0.3, gamma=1.0))
    columns, _ = simulated(0.0, count=30)
    loss = own(DISTILLATION_2025.parameters, **columns)
    fit = fitting.fit(own, columns, loss, fixed={"c1": 522.6, "f1": 0.09, "d1": 1.315}, bootstrap=0)
    again = laws.load_fit(fit.save(tmp_path / "fit.json"))
    assert again.model == own
    assert_allclose(again.value(**columns), fit.value(**columns))
