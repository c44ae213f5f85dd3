from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.laws import Chinchilla, ComputeFrontier

exponents = st.floats(0.1, 0.9)
coefficients = st.floats(1.0, 1e5)


@settings(max_examples=50, deadline=None)
@given(coefficients, coefficients, exponents, exponents, st.floats(1e15, 1e26))
def test_identities_of_the_optimum(A, B, alpha, beta, flops):
    p = {"E": 1.7, "A": A, "B": B, "alpha": alpha, "beta": beta}
    f = ComputeFrontier.of(p)
    n, d = f.params(flops), f.tokens(flops)
    assert_allclose(n * d, flops / 6, rtol=1e-9)
    assert_allclose(alpha * A * n**-alpha, beta * B * d**-beta, rtol=1e-8)
    assert_allclose(f.flops_for(f.reducible(flops)), flops, rtol=1e-8)
    assert_allclose(f.tokens_for(n), d, rtol=1e-8)
    assert_allclose(f.loss(flops), Chinchilla()(p, params=n, tokens=d), rtol=1e-12)
    beside = Chinchilla()(p, params=n * np.array([0.99, 1.01]), tokens=d / np.array([0.99, 1.01]))
    assert (beside >= f.loss(flops)).all()
    enough = f.tokens_reaching(f.loss(flops), n)  # ill-conditioned where little is left to reduce: judge its loss
    assert_allclose(Chinchilla()(p, params=n, tokens=enough), f.loss(flops), rtol=1e-12)


def test_published_optimum_at_chinchillas_budget():
    best = np.exp([6.16924637, 7.67015671, 0.59730681])
    f = ComputeFrontier(best[2], best[0], best[1], 0.34731050, 0.36717243)
    assert_allclose(f.params(5.76e23), 73.2e9, rtol=1e-3)
    assert_allclose(f.tokens(5.76e23) / f.params(5.76e23), 17.9, rtol=2e-3)
    assert f.tokens_reaching(1.8, 1e9) == np.inf


def test_rows_of_draws_broadcast():
    f = ComputeFrontier(1.7, np.array([400.0, 500.0]), 2000.0, 0.34, np.array([0.3, 0.36]))
    single = ComputeFrontier(1.7, 500.0, 2000.0, 0.34, 0.36)
    assert_allclose(f.params(1e21)[1], single.params(1e21))
