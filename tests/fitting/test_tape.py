"""Programs: batched values and Jacobians, constant and repeated outputs, extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fitting_examples import TRUTH, Interaction, Joint, Line, Sum, design

from limbeck.errors import FittingError
from limbeck.fitting import Model, Parameter
from limbeck.fitting.tape import Program, trace


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("model", [Sum(), Joint(), Interaction()], ids=lambda m: m.name)
def test_values_are_the_formula_and_jacobians_its_differences(model: Model, log: bool) -> None:
    columns = {name: values / values.mean() for name, values in design(9).items()}
    program = Program(trace(model, log=log), columns)
    theta = np.random.default_rng(0).uniform(0.1, 0.6, (4, len(model.parameters)))
    value, jacobian = (a.copy() for a in program.evaluate(theta))
    named = {p.name: (np.exp(theta[:, k]) if p.log else theta[:, k])[:, None] for k, p in enumerate(model.parameters)}
    expected = model(named, **columns)
    np.testing.assert_allclose(value, np.log(expected) if log else expected, rtol=1e-13)
    for k in range(theta.shape[1]):
        h = np.zeros(theta.shape[1])
        h[k] = 1e-5
        numeric = (program.evaluate(theta + h)[0].copy() - program.evaluate(theta - h)[0]) / 2e-5
        np.testing.assert_allclose(jacobian[:, k], numeric, rtol=1e-7, atol=1e-8)


def test_jacobians_that_are_constant_data_or_equal() -> None:
    class Plain(Model):
        name, columns, target = "plain", ("x",), "y"
        parameters = tuple(Parameter(name) for name in "abcde")

        def formula(self, p: Any, x: Any) -> Any:
            return p.a + p.b + p.c * x.x + np.exp(p.d) + np.exp(p.e * x.x)

    x = np.array([1.0, 2.0])
    value, jacobian = Program(trace(Plain()), {"x": x}).evaluate(np.array([[1.0, 2, 3, 0, 0], [0, 0, 0, 0, 1]]))
    np.testing.assert_allclose(value, [[8, 11], [1 + np.e, 1 + np.e**2]])
    np.testing.assert_allclose(jacobian[0], [[1, 1], [1, 1], x, [1, 1], x])
    np.testing.assert_allclose(jacobian[1, 4], x * np.exp(x))


def test_a_block_is_its_rows() -> None:
    program = Program(trace(Interaction(), log=True), design(31))
    theta = np.random.default_rng(1).normal(0.3, 0.1, (17, 8))
    block = [a.copy() for a in program.evaluate(theta)]
    for row in range(17):
        alone = program.evaluate(theta[row : row + 1])
        assert (alone[0][0] == block[0][row]).all()
        assert (alone[1][0] == block[1][row]).all()


def test_fixed_parameters_are_constants() -> None:
    columns = design(5)
    tape = trace(Sum(), fixed={"alpha": TRUTH["alpha"], "E": TRUTH["E"]})
    assert tape.free == ("A", "B", "beta")
    theta = np.array([[np.log(TRUTH["A"]), np.log(TRUTH["B"]), TRUTH["beta"]]])
    np.testing.assert_allclose(Program(tape, columns).evaluate(theta)[0][0], Sum()(TRUTH, **columns), rtol=1e-13)


def test_extremes_overflow_quietly() -> None:
    program = Program(trace(Sum(), log=True), design(5))
    with np.errstate(all="raise"):
        value, _ = program.evaluate(np.array([[0.0, 800.0, 0, 0, 0], [-800.0, -800, -800, 1, 1]]))
    assert np.isinf(value).all()


def test_a_formula_without_symbols_is_refused() -> None:
    class Constant(Line):
        def formula(self, p: Any, x: Any) -> Any:
            return 3.0

    with pytest.raises(FittingError, match="does not depend on its parameters"):
        trace(Constant())
