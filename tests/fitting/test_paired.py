import numpy as np
import pytest
from scipy.stats import ttest_rel

from limbeck.errors import FittingError
from limbeck.fitting import paired


def test_paired_is_students_paired_test() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7))
    found, known = paired(a - b, level=0.9), ttest_rel(a, b)
    interval = known.confidence_interval(0.9)
    assert (found.p, found.lower, found.upper) == pytest.approx((known.pvalue, interval.low, interval.high), rel=1e-12)
    assert found.mean / found.error == pytest.approx(known.statistic) and found.pairs == 7


def test_equal_differences_have_no_scatter() -> None:
    assert paired([2.0, 2.0]).p == 0.0 and paired([0.0, 0.0]).p == 1.0
    assert paired([2.0, 2.0]).lower == paired([2.0, 2.0]).upper == 2.0


@pytest.mark.parametrize("differences", [[1.0], [], [1.0, np.nan], [[1.0, 2.0]]])
def test_too_few_or_not_finite(differences: list[float]) -> None:
    with pytest.raises(FittingError, match="at least two finite"):
        paired(differences)
