"""Principal components of benchmarks, their sigmoid, and skills with one intercept a family."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from limbeck.errors import FittingError
from limbeck.laws import CapabilityScale, LatentSkills, family_line

GUESS = np.array([0.25, 0.25, 0.25, 0.5, 0.0, 0.0, 0.5, 0.0])


@pytest.fixture(scope="module")
def models(data_folder):
    table = pl.read_csv(data_folder / "observational_llm" / "base_llm_benchmark_eval.csv")
    return table.filter(pl.col("FLOPs (1E21)").is_not_null())


def test_components_explain_what_the_note_says(models, data_folder):
    tasks = pl.read_csv(data_folder / "observational_llm" / "base_llm_emergent_capability_eval.csv")
    both = models.join(tasks, on="Model")
    assert len(both) == 73
    scale = CapabilityScale.of(both.select(models.columns[5:]).to_numpy())
    assert_allclose(scale.explained[:2], [0.874, 0.084], atol=5e-4)


def test_families_lie_on_lines_of_log_compute(models):
    place = CapabilityScale.of(models.select(models.columns[5:]).to_numpy()).measure(
        models.select(models.columns[5:]).to_numpy(), 1
    )[:, 0]
    for family in ("Pythia", "OPT", "BLOOM", "Llama-2"):
        rows = (models["Model Family"] == family).to_numpy()
        flops = models["FLOPs (1E21)"].to_numpy()[rows] * 1e21
        line = family_line(flops, place[rows])
        assert line.exponent > 4 * line.exponent_se
        assert np.corrcoef(np.log(flops), place[rows])[0, 1] ** 2 > 0.95


def test_empty_cells_of_one_component_are_filled_exactly():
    skill = np.linspace(-1, 1, 20)
    full = 0.5 + np.outer(skill, [0.1, 0.2, 0.3])
    holes = full.copy()
    holes[[3, 7, 11], [0, 1, 2]] = np.nan
    scale = CapabilityScale.of(holes)
    assert_allclose(scale.measure(holes, 3), CapabilityScale.of(full).measure(full, 3), atol=1e-7)
    assert_allclose(scale.explained[0], 1.0, atol=1e-9)


def test_other_models_do_not_move_the_scale():
    rng = np.random.default_rng(0)
    known = rng.uniform(size=(12, 4))
    scale = CapabilityScale.of(known)
    other = rng.uniform(size=(3, 4))
    assert_allclose(scale.measure(np.vstack([known, other]))[:12], scale.measure(known))


def test_an_empty_benchmark_is_refused():
    with pytest.raises(FittingError, match="1 empty benchmarks"):
        CapabilityScale.of([[0.1, np.nan], [0.2, np.nan], [0.3, np.nan]])


def simulated(skills, seed=0):
    """Eight families of four models on six benchmarks, without noise."""
    rng = np.random.default_rng(seed)
    family = np.repeat([f"family {k}" for k in range(8)], 4)
    n, d = np.exp(rng.uniform(-2, 2, (2, 32)))
    x = np.stack([np.log(n), np.log(d), np.log(n) * np.log(d)], 1)
    theta = np.repeat(rng.normal(0, 0.5, (8, skills)), 4, 0) + x @ rng.uniform(0.0, 0.4, (3, skills))
    return family, n, d, 0.25 + 0.75 * expit(theta @ rng.uniform(0.5, 1.5, (skills, 6)))


@pytest.mark.parametrize("skills", [1, 2])
def test_one_small_model_places_a_family(skills):
    family, n, d, y = simulated(skills)
    target = family == "family 7"
    small = np.flatnonzero(target)[np.argmin((n * d)[target])]
    kept = ~target
    kept[small] = True
    found = LatentSkills.of(family[kept], n[kept], d[kept], y[kept], guess=0.25, skills=skills)
    for one in np.flatnonzero(~kept):
        assert_allclose(found.predict("family 7", n[one], d[one]), y[one], atol=2e-3)
    record = json.loads(json.dumps(found.to_dict()))
    assert_allclose(record["slopes"], found.slopes)
    assert found.summary().splitlines()[0].startswith(f"{skills} skills of 8 families, AIC ")
    figure = found.plot()
    assert len(figure.data) == skills and len(figure.data[0].y) == 6


def test_criterion_finds_the_number_of_skills():
    family, n, d, y = simulated(2)
    y = y + np.random.default_rng(1).normal(0, 0.01, y.shape)
    found = {k: LatentSkills.of(family, n, d, y, guess=0.25, skills=k).aic for k in (1, 2, 3)}
    assert min(found, key=found.get) == 2


def test_one_model_of_a_family_forecasts_the_others(models):
    """One skill over all 33 families errs by 6.7 points, the small model's own scores by 10.3; here every third."""
    y = models.select(models.columns[5:]).to_numpy()
    n, d = models["Model Size (B)"].to_numpy(), models["Pretraining Data Size (T)"].to_numpy()
    family = models["Model Family"].to_numpy()
    gains = []
    for name in np.unique(family)[::3]:
        rows = np.flatnonzero(family == name)
        small = rows[np.argmin(n[rows] * d[rows])]
        others = rows[rows != small]
        if len(np.unique(n[rows] * d[rows])) > 1:
            kept = np.setdiff1d(np.arange(len(family)), others)
            found = LatentSkills.of(family[kept], n[kept], d[kept], y[kept], guess=GUESS, skills=1)
            ours = np.nanmean([abs(found.predict(name, n[i], d[i]) - y[i]) for i in others])
            gains.append(np.nanmean(abs(y[small] - y[others])) - ours)
    assert len(gains) > 8
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / len(gains) ** 0.5


def test_bad_skills_are_refused():
    family, n, d, y = simulated(1)
    with pytest.raises(FittingError, match="7 skills of 8 families and 6 benchmarks"):
        LatentSkills.of(family, n, d, y, skills=7)
    with pytest.raises(FittingError, match='Did you mean "family 7"'):
        LatentSkills.of(family, n, d, y, skills=1).predict("famly 7", 1.0, 1.0)
