from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import get


def test_the_spectrum_forecasts_the_learning_curve_of_digits() -> None:
    pytest.importorskip("sklearn")
    from limbeck.papers.explaining_scaling_laws import digits

    measured, forecast = (np.array(curve) for curve in digits(0, 2))
    assert (np.diff(measured) < 0).all() and (np.diff(forecast) < 0).all()
    # s.e. of a measured loss over two training sets about 0.02
    assert (np.abs(forecast / measured - 1)[:3] < 0.2).all()


def test_slopes_of_every_curve() -> None:
    from limbeck.papers.explaining_scaling_laws import slopes

    n, alphas = np.array([10.0, 20.0, 40.0]), np.array([[0.5, 1.0], [1.5, 2.0]])
    assert slopes(n, 3 * n ** -alphas[..., None]) == pytest.approx(alphas)


@pytest.mark.slow
def test_the_claim_of_explaining_scaling_laws_holds() -> None:
    record = get("explaining-scaling-laws").run(quick=True)
    assert record.holds is True
    assert all(record.checks.values())
