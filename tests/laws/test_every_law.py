"""What every registered law must satisfy."""

from __future__ import annotations

import inspect
import itertools
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck import fitting, laws
from limbeck.fitting import Loss
from limbeck.laws import SupervisedLoss
from limbeck.laws.annealing import PARTS

TRUTH = {
    "bit-level": {"E": 1.5, "x2": 2e5, "x3": 3e4, "x4": 2e4, "x8": 4e4, "x16": 8e4, "alpha": 0.4},
    "annealing": {"L0": 2.8, "A": 0.6, "C": 0.5, "alpha": 0.45},
    "annealing-size": {"L0": 2.1, "A": 0.6, "C": 0.04, "alpha": 0.45, "B": 80.0, "beta": 0.25, "gamma": -0.13},
    "multi-power": {"L0": 2.8, "A": 0.6, "B": 450.0, "alpha": 0.45, "C": 300.0, "beta": 0.5, "gamma": 0.6},
    "batch": dict(laws.KAPLAN_2020_BATCH.parameters),
    "broken-power": {"a": 1.0, "b": 3e3, "c0": 0.4, "c1": 0.3, "d1": 1e9, "f1": 0.3},
    "capacity-gap": {"a": 2.5, "b": 1e7},
    "ceiling-score": {"level": 30.0, "gain": 0.2, "alpha": 0.3},
    "chinchilla": {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.37},
    "data-constrained": {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.37},
    "distillation": dict(laws.DISTILLATION_2025.parameters),
    "downstream-error": {"epsilon": 0.85, "k": 2.2, "gamma": 0.7},
    "henighan": {"L_inf": 2.2, "x0": 63.0, "alpha": 0.13},
    "kaplan": dict(laws.KAPLAN_2020.parameters),
    "overtraining": {"E": 1.8, "A": 170.0, "B": 290.0, "alpha": 0.27},
    "pass-rate": {"E": 0.2, "A": 40.0, "alpha": 0.25},
    "power": {"A": 11.9, "alpha": 0.066},
    "power-floor": {"E": 0.1, "A": 12.0, "alpha": 0.3},
    "shifted-power": {"E": 0.1, "A": 12.0, "x0": 1e18, "alpha": 0.05},
    "precision": {"E": 2.0, "A": 400.0, "B": 1800.0, "alpha": 0.35, "beta": 0.3, "gamma_w": 2.5},
    "student-curve": {"E": 1.5, "B": 1000.0, "beta": 0.5},
    "transfer-score": {"level": 10.0, "gain": 0.2, "beta": 2.0},
    "supervised": dict(laws.SUPERVISED_2025.parameters),
    "two-part": {"alpha": 6000.0, "p_e": 0.18, "p_d": 0.31, "L_inf": 1.1},
    "two-part-sum": {"a": 20.0, "p_e": 0.25, "b": 300.0, "p_d": 0.4, "L_inf": 1.1},
    "task-accuracy": {"floor": 0.25, "ceiling": 0.9, "k": 3.0, "L0": 2.9},
}
RANGES = {
    "batch_tokens": (1e5, 1e7),
    "step": (1e3, 1e6),
    "S1": (0.5, 20.0),
    "S2": (0.01, 0.3),
    "params": (1e7, 1e10),
    "encoder_params": (1e6, 1e9),
    "decoder_params": (1e6, 1e9),
    "epochs": (1.0, 40.0),
    "flops": (1e17, 1e22),
    "tokens": (1e8, 1e12),
    "loss": (2.0, 5.0),
    "teacher_loss": (1.5, 3.5),
    "bits": (2.0, 16.0),
    "total_bits": (1e8, 1e11),
    **{f"fall{k}": (1e-6, 2e-5) for k in range(PARTS)},
    **{f"rate{k}": (0.1, 1.0) for k in range(PARTS)},
    **{f"since{k}": (1e-3, 5.0) for k in range(PARTS)},
}


def design(law, count=60, seed=0):
    rng = np.random.default_rng(seed)
    return {name: np.exp(rng.uniform(*np.log(RANGES[name]), count)) for name in law.columns}


every_law = pytest.mark.parametrize("name", laws.names())


def test_every_law_has_a_truth_here():
    assert set(laws.names()) == set(TRUTH)


@every_law
def test_law_is_finite_and_positive_at_its_starts_and_its_truth(name):
    law = laws.get(name)
    assert (law(TRUTH[name], **design(law)) > 0).all()
    columns = {c: v / np.exp(np.log(v).mean()) if c != "teacher_loss" else v for c, v in design(law).items()}
    axes = [(1.0,) if p.name in law.linear else p.start for p in law.parameters]
    for values in itertools.product(*axes):
        assert np.isfinite(law(dict(zip(law.parameter_names, values, strict=True)), **columns)).all()


@every_law
def test_dimensions_are_true(name):
    """formula(A s^-alpha, x/s) = formula(A, x) for every declared unit."""
    law, truth = laws.get(name), TRUTH[name]
    x = design(law)
    scale = dict(zip(law.columns, (37.0, 0.011, 2.0), strict=False))
    declared = {column for p in law.parameters for column in p.dimension}
    scaled = dict(truth)
    for p in law.parameters:
        for column, power in p.dimension.items():
            scaled[p.name] *= scale[column] ** -(truth[power] if isinstance(power, str) else power)
    if name == "distillation":  # its frozen law has the same units and must be scaled with them
        s = SupervisedLoss()
        a, b = s.A * scale["params"] ** -s.alpha, s.B * scale["tokens"] ** -s.beta
        other = laws.get(name, supervised=SupervisedLoss(A=a, B=b))
    else:
        other = law
    moved = {c: v / scale[c] if c in declared else v for c, v in x.items()}
    assert_allclose(other(scaled, **moved), law(truth, **x), rtol=1e-10)


@every_law
def test_linear_parameters_are_linear(name):
    law, truth = laws.get(name), TRUTH[name]
    x = design(law)

    def at(**changes):
        return law({**truth, **changes}, **x)

    for one in law.linear:
        first, second, third = (at(**{one: k * truth[one]}) for k in (1, 2, 3))
        assert_allclose(second - first, third - second, rtol=1e-9)
    for a, b in itertools.combinations(law.linear, 2):
        mixed = at(**{a: 2 * truth[a], b: 2 * truth[b]}) - at(**{b: 2 * truth[b]})
        assert_allclose(mixed, at(**{a: 2 * truth[a]}) - at(), rtol=1e-9)


@every_law
def test_law_names_its_source(name):
    law = type(laws.get(name))
    assert law.source.arxiv in inspect.getdoc(law)
    assert law.source.title in inspect.getdoc(law)
    assert law.__doc__.count(">>>"), "an example that runs"
    assert all(p.meaning for p in laws.get(name).parameters)
    assert laws.get(name).equation


@every_law
def test_law_recovers_its_own_predictions_and_survives_a_file(name, tmp_path):
    law = laws.get(name)
    x = design(law, 60)
    y = law(TRUTH[name], **x)
    fit = fitting.fit(law, x, y, loss=law.preferred_loss or Loss(delta=np.inf), bootstrap=20)
    again = laws.load_fit(fit.save(tmp_path / "fit.json"))
    assert again.model == law and again.parameters == fit.parameters
    inside = design(law, 40, seed=1)
    assert_allclose(again.value(**inside), fit.value(**inside), rtol=0)
    assert_allclose(fit.value(**inside), law(TRUTH[name], **inside), rtol=1e-8)
    json.dumps(fit.to_dict())


def test_unknown_law_names_the_nearest():
    with pytest.raises(laws.law.FittingError, match=r'unknown law "chinchila"\. Did you mean "chinchilla"\?'):
        laws.get("chinchila")
    with pytest.raises(laws.law.FittingError, match=f"lists all {len(laws.names())}"):
        laws.get("zzz")


def test_a_law_registers_itself_and_its_name_is_its_own():
    with pytest.raises(laws.law.FittingError, match='the law name "power" is taken'):
        type("Impostor", (laws.Law,), {"name": "power", "__module__": __name__})


def test_column_of_a_law_of_one_column():
    law = laws.get("power-floor:params")
    assert law.columns == ("params",)
    assert law.equation == "E + A / params^alpha"
    with pytest.raises(laws.law.FittingError, match='takes no ":params"'):
        laws.get("kaplan:params")
