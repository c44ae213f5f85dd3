from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss
from limbeck.laws import MODALITIES, PowerPlusConstant, Trend, infogain, mutual_information, trend_conflict

IMAGES, LANGUAGE = MODALITIES["image_8x8"], MODALITIES["language"]


def noisy(law, sizes, noise=0.002):
    return law.value(sizes) * np.exp(noise * np.random.default_rng(0).standard_normal(len(sizes)))


@pytest.mark.parametrize("domain", MODALITIES)
def test_size_for_a_divergence_inverts_the_reducible_loss(domain):
    law = MODALITIES[domain].params
    assert_allclose(law.x_for(law.reducible(1e7)), 1e7, rtol=1e-9)
    x = np.geomspace(1e4, 1e9, 6)
    assert_allclose(np.diff(np.log(law.reducible(x))) / np.diff(np.log(x)), -law.alpha, rtol=1e-9)


def test_floor_is_found_where_the_curve_bends_and_refused_where_it_does_not():
    sizes = np.geomspace(1e4, 1e9, 8)
    images = laws.fit(
        "henighan:params", {"params": sizes, "loss": noisy(IMAGES.params, sizes)}, loss=SQUARED, bootstrap=200
    )
    assert abs(images.parameters["L_inf"] / 3.12 - 1) < 0.01
    assert images.identifiability.identified["L_inf"]
    language = laws.fit(
        "henighan:params", {"params": sizes, "loss": noisy(LANGUAGE.params, sizes)}, loss=SQUARED, bootstrap=200
    )
    assert not language.identifiability.identified["L_inf"]
    assert any("L_inf is not identified" in words for words in language.identifiability.words)


def test_one_sided_fit_stays_below_the_frontier():
    flops = np.geomspace(1e-6, 1e2, 30)
    frontier = IMAGES.compute.value(flops) * (1 + 0.01 * np.abs(np.sin(np.arange(30.0))))
    below = laws.fit(
        "henighan:flops", {"flops": flops, "loss": frontier}, loss=Loss(np.inf, overestimate=1e4), bootstrap=0
    )
    assert (np.log(below.value(flops=flops) / frontier)).max() < 1e-3
    middle = laws.fit("henighan:flops", {"flops": flops, "loss": frontier}, loss=SQUARED, bootstrap=0)
    assert (np.log(middle.value(flops=flops) / frontier)).max() > 2e-3


def test_information():
    assert mutual_information(18.93, 18.93) == 0
    assert_allclose(infogain(mutual_information(21.29, 20.38), np.log(10)), 0.395, atol=1e-3)


def test_crossing_solves_both_trends():
    data = PowerPlusConstant(0.0, 5.4e13, 0.095)
    unit = 8.64e19
    compute = trend_conflict(LANGUAGE.compute, data, LANGUAGE.optimal, unit=unit)
    tokens = LANGUAGE.optimal_tokens(compute)
    assert_allclose(LANGUAGE.compute.value(compute), data.value(tokens), rtol=1e-9)
    with pytest.raises(FittingError, match="do not cross"):
        trend_conflict(PowerPlusConstant(9.0, 1e8, 0.05), data, Trend(1e9, 0.5), unit=unit)


def test_nats_per_item_and_missing_columns():
    assert_allclose(IMAGES.nats_per_item(1e9), 192 * (80 / 1e9) ** 0.24)
    with pytest.raises(FittingError, match="no published N_opt"):
        MODALITIES["text_to_image_text"].optimal_tokens(1.0)
    with pytest.raises(FittingError, match="no number of tokens"):
        LANGUAGE.nats_per_item(1e9)
