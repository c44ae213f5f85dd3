"""Traced formulas: derivatives against the complex step, simplification, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fitting_examples import Sum, design
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import FittingError
from limbeck.fitting import Model, Parameter
from limbeck.fitting.expression import Graph, Symbol, held
from limbeck.fitting.tape import Program, trace

Formula = Callable[[Any, Any], Any]
LEAVES: list[Formula] = [
    lambda p, x: p.a,
    lambda p, x: p.b,
    lambda p, x: p.c,
    lambda p, x: x.u,
    lambda p, x: x.v,
    lambda p, x: 2.0,
    lambda p, x: 1.0,
]
# Every operation keeps positive arguments positive and of moderate size.
ONE: list[Callable[[Any], Any]] = [
    lambda t: np.exp(-t),
    lambda t: np.log(2.0 + t),
    np.log1p,
    lambda t: np.expm1(0.1 * np.tanh(t)),
    np.sqrt,
    np.square,
    np.tanh,
    lambda t: np.negative(-t),
    lambda t: 1.0 / t,
    lambda t: t**1.5,
    lambda t: np.reciprocal(1.0 + t),
]
TWO: list[Callable[[Any, Any], Any]] = [
    lambda s, t: s + t,
    lambda s, t: s * t,
    lambda s, t: s / t,
    lambda s, t: s ** np.tanh(t),
    lambda s, t: s + 3.0 - np.tanh(t),
    lambda s, t: np.exp(-s) * np.exp(-t),
    lambda s, t: np.exp(-s) / np.exp(-t * 0.1),
]


def _one(function: Callable[[Any], Any], inner: Formula) -> Formula:
    return lambda p, x: function(np.tanh(inner(p, x)) + 0.5)


def _two(function: Callable[[Any, Any], Any], left: Formula, right: Formula) -> Formula:
    return lambda p, x: function(left(p, x), right(p, x))


formulas = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds(_one, st.sampled_from(ONE), inner) | st.builds(_two, st.sampled_from(TWO), inner, inner),
    max_leaves=12,
)


def model_of(formula: Formula, *names: str) -> Model:
    class Random(Model):
        name, columns, target = "random", ("u", "v"), "y"
        parameters = tuple(Parameter(name, log=name == "c") for name in names)

        def formula(self, p: Any, x: Any) -> Any:
            return formula(p, x)

    return Random()


class Values:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@settings(max_examples=150, deadline=None)
@given(formulas, st.integers(0, 1000), st.booleans())
def test_gradient_is_the_complex_step(formula: Formula, seed: int, log: bool) -> None:
    rng = np.random.default_rng(seed)
    columns = {"u": rng.uniform(0.5, 2.0, 5), "v": rng.uniform(0.5, 2.0, 5)}
    theta = rng.uniform(0.5, 1.5, (3, 3))

    def whole(p: Any, x: Any) -> Any:
        return formula(p, x) + p.a * x.u + p.c

    program = Program(trace(model_of(whole, "a", "b", "c"), log=log), columns)
    value, jacobian = program.evaluate(theta)
    for row, (a, b, c) in enumerate(theta):
        for k in range(3):
            h = np.zeros(3, complex)
            h[k] = 1e-30j
            f = whole(Values(a=a + h[0], b=b + h[1], c=np.exp(c + h[2])), Values(**columns))
            f = np.log(f) if log else f
            np.testing.assert_allclose(value[row], f.real, rtol=1e-12)
            np.testing.assert_allclose(jacobian[row, k], f.imag / 1e-30, rtol=1e-9, atol=1e-12)


def test_kinks_are_differentiated_on_each_side() -> None:
    def formula(p: Any, x: Any) -> Any:
        kinks = np.maximum(p.a * x.u, 1.0) + np.minimum(p.b, x.v) + np.absolute(p.a - x.v)
        return kinks + np.logaddexp(p.a * x.u, -p.b * x.v)

    rng = np.random.default_rng(0)
    columns = {"u": rng.uniform(0.2, 2.0, 40), "v": rng.uniform(0.2, 2.0, 40)}
    program = Program(trace(model_of(formula, "a", "b")), columns)
    theta = np.array([[0.9, 1.1], [1.7, 0.4]])
    jacobian = program.evaluate(theta)[1].copy()
    for k in range(2):
        h = np.zeros(2)
        h[k] = 1e-6
        numeric = (program.evaluate(theta + h)[0].copy() - program.evaluate(theta - h)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, k], numeric, atol=1e-8)


def test_a_held_iterate_gives_the_derivatives_of_the_root() -> None:
    """x with x³ + a x = u, by Newton steps from 1: dx/da = -x / (3 x² + a)."""

    def formula(p: Any, x: Any) -> Any:
        root = 1.0 + 0.0 * p.a
        for _ in range(8):
            root = held(root)
            root = root - (root**3.0 + p.a * root - x.u) / (3.0 * root**2.0 + p.a)
        return root

    columns = {"u": np.array([0.3, 2.0, 9.0]), "v": np.ones(3)}
    value, jacobian = Program(trace(model_of(formula, "a")), columns).evaluate(np.array([[0.7]]))
    np.testing.assert_allclose(value[0] ** 3 + 0.7 * value[0], columns["u"], rtol=1e-14)
    np.testing.assert_allclose(jacobian[0, 0], -value[0] / (3 * value[0] ** 2 + 0.7), rtol=1e-12)
    assert held(2.0) == 2.0


def test_the_sum_law_costs_two_exponentials_a_logarithm_and_a_division() -> None:
    program = Program(trace(Sum(), log=True), design(4))
    ops = [ufunc.__name__ for ufunc, *_ in program.calls]
    assert {op: ops.count(op) for op in ("exp", "log", "divide", "multiply", "add", "negative")} == {
        "exp": 2,
        "log": 1,
        "divide": 1,
        "multiply": 7,
        "add": 4,
        "negative": 0,
    }


def test_equal_expressions_are_one_node_and_constants_fold() -> None:
    graph = Graph()
    a, b = Symbol(graph, graph.parameter("a")), Symbol(graph, graph.column("b"))
    assert (a * b).index == (b * a).index
    assert (a**2.0).index == np.square(a).index
    assert (a**1.0).index == a.index
    assert np.log(np.exp(a)).index == a.index
    assert np.negative(-a).index == a.index
    assert ((a + 0.0) * 1.0 / 1.0 - 0.0).index == a.index
    assert graph.value((a**0.0 * 3.0 + 1.0).index) == 4.0
    assert graph.value((a * 0.0).index) == 0.0


@pytest.mark.parametrize(
    "bad",
    [
        lambda p, x: np.sin(p.a),
        lambda p, x: +p.a,
        lambda p, x: np.add.reduce(p.a),
        lambda p, x: np.add(p.a, 1, where=True),
    ],
)
def test_a_function_without_a_rule_is_refused_with_the_list(bad: Formula) -> None:
    with pytest.raises(FittingError, match=r"numpy\.(sin|add|positive).*it may use: negative, exp, log"):
        trace(model_of(bad, "a"))
