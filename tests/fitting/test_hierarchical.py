from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss, Prior
from limbeck.fitting.hierarchical import NoiseComponents, hierarchical_draws, noise_components
from limbeck.laws import fit

SIZES, BUDGETS, SEEDS = (1e4, 3e4, 1e5), (1e6, 2e6, 4e6), 4


def ladder(run: float, point: float, seed: int = 0, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """Runs of a known law: every seed of a size is one run with three budgets."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in SIZES:
        for repeat in range(seeds):
            shared = rng.normal()
            for budget in BUDGETS:
                loss = 1.0 + 20 * size**-0.4 + 3000 * budget**-0.6
                rows.append((size, budget, loss * np.exp(run * shared + point * rng.normal()), f"{size:g}-{repeat}"))
    params, tokens, loss, name = (np.array(column) for column in zip(*rows, strict=True))
    return {"params": params, "tokens": tokens, "loss": loss, "run": name}


def components(table: dict[str, np.ndarray]) -> NoiseComponents:
    cell = [f"{n}/{d}" for n, d in zip(table["params"], table["tokens"], strict=True)]
    return noise_components(table["loss"], cell, table["run"], table["params"])


def test_components_are_unbiased_over_many_ladders():
    found = [components(ladder(0.01, 0.004, seed)) for seed in range(200)]
    # 9 degrees of freedom a ladder: the s.e. of a mean variance over 200 is about 3.5 %; 4 s.e. is 14 %
    assert np.mean([c.run**2 for c in found]) == pytest.approx(0.01**2, rel=0.14)
    assert np.mean([c.point**2 for c in found]) == pytest.approx(0.004**2, rel=0.10)
    assert found[0].degrees == 9


def test_one_run_per_size_says_nothing_about_noise():
    with pytest.raises(FittingError, match="two runs"):
        components(ladder(0.01, 0.004, seeds=1))


def test_a_band_of_a_new_run_holds_the_noise_and_its_doubt():
    table = ladder(0.01, 0.004)
    law = fit("chinchilla", table, loss=SQUARED, bootstrap=0, priors={"beta": Prior(0.6, 0.1)})
    known = hierarchical_draws(law, NoiseComponents(0.01, 0.004), 500)
    doubtful = hierarchical_draws(law, NoiseComponents(0.01, 0.004, degrees=3), 500)
    inside = {"params": 3e4, "tokens": 2e6}

    def width(fitted):
        band = fitted.predict(0.8, **inside)
        return float(np.log(band.upper[0] / band.lower[0]))

    assert known.noise.std() == pytest.approx(np.hypot(0.01, 0.004), rel=0.02)
    assert 2 * 1.28 * 0.0108 < width(known) < 2 * 1.28 * 0.0108 * 1.5
    assert width(doubtful) > width(known)
    assert width(hierarchical_draws(law, NoiseComponents(0.01, 0.004), 500, form=0.02)) > 1.5 * width(known)
    assert known.predict(0.8, **inside).mean == law.predict(0.8, **inside).mean


def test_noise_of_logarithms_needs_a_fit_of_logarithms():
    law = fit("chinchilla", ladder(0.01, 0.004), loss=Loss(delta=np.inf, space="linear"), bootstrap=0)
    with pytest.raises(FittingError, match="linear"):
        hierarchical_draws(law, NoiseComponents(0.01, 0.004), 10)
