from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import entropy

from limbeck.errors import LimbeckError
from limbeck.theory import (
    aggregate,
    anchor,
    bounds,
    choose_lambda,
    generations_to,
    kl,
    plateau,
    recursive_distill,
    soften,
    soften_uniform,
    validate_operator,
)


def triples(count=2000, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes), count), rng.dirichlet(np.full(classes, 0.5), count), rng.random(count)


@pytest.mark.parity
def test_reference(parity, walk_sections):
    def cases(found):
        for case in found:
            teachers, weights = np.array(case["teachers"]), case["weights"]
            softened = soften(teachers, case["temperature"])
            assert_allclose(softened, case["softened_teachers"], atol=1e-12)
            for kind in ("arithmetic", "geometric"):
                assert_allclose(aggregate(teachers, weights, kind), case[f"agg_{kind}"], atol=1e-12)
                lineage = recursive_distill(
                    teachers,
                    lambda target, t: target,
                    weight=[case["anchor"]] * len(case[f"kl_{kind}"]),
                    weights=weights,
                    kind=kind,
                    start=case["p0"],
                )
                assert_allclose(lineage.forward, case[f"kl_{kind}"], rtol=1e-6, atol=1e-14)
                assert_allclose(lineage.student, case[f"final_{kind}"], atol=1e-12)
            known = {"p0", "teachers", "weights", "anchor", "temperature", "softened_teachers"}
            assert set(case) == known | {
                f"{a}_{k}" for a in ("agg", "kl", "final") for k in ("arithmetic", "geometric")
            }

    walk_sections(parity("recursive-meta-distillation"), {"cases": cases}, ignore={"note"})


def test_contraction_of_both_anchors():
    for p, q, weight in zip(*triples(), strict=True):
        m, g = anchor(p, q, weight), anchor(p, q, weight, "geometric")
        assert kl(q, m) <= (1 - weight) * kl(q, p) * (1 + 1e-12) + 1e-15
        assert kl(m, q) <= (1 - weight) * kl(p, q) * (1 + 1e-12) + 1e-15
        assert_allclose(np.abs(m - q).sum(), (1 - weight) * np.abs(p - q).sum(), rtol=1e-9)
        assert kl(q, g) <= (1 - weight) * kl(q, p) * (1 + 1e-12) + 1e-15
        assert kl(g, q) <= kl(p, q) * (1 + 1e-12)
        z = np.sum(p ** (1 - weight) * q**weight)
        assert z <= 1 + 1e-12
        assert_allclose(kl(q, g), (1 - weight) * kl(q, p) + np.log(z), atol=1e-12)


def test_the_reverse_divergence_of_a_geometric_anchor_may_beat_the_rate():
    ratio = max(
        kl(anchor(p, q, w, "geometric"), q) / ((1 - w) * kl(p, q))
        for p, q, w in zip(*triples(500, seed=1), strict=True)
    )
    assert ratio > 1.02


@pytest.mark.parametrize("kind", ["arithmetic", "geometric"])
def test_ends_and_fixed_point_of_the_anchor(kind):
    p, q, _ = (x[0] for x in triples(1))
    assert_allclose(anchor(p, q, 0.0, kind), p, atol=1e-12)
    assert_allclose(anchor(p, q, 1.0, kind), q, atol=1e-12)
    assert_allclose(anchor(q, q, 0.3, kind), q, atol=1e-12)


def test_geometric_means_commute_with_softening_and_arithmetic_ones_do_not():
    teachers = triples(3)[0]
    weights = [0.2, 0.5, 0.3]
    for kind, same in (("geometric", True), ("arithmetic", False)):
        first, second = aggregate(soften(teachers, 2.5), weights, kind), soften(aggregate(teachers, weights, kind), 2.5)
        assert np.allclose(first, second, atol=1e-10) is same


def test_means_minimise_their_divergence():
    teachers, weights = triples(3)[0], np.array([0.2, 0.5, 0.3])
    rng = np.random.default_rng(2)
    a, g = aggregate(teachers, weights), aggregate(teachers, weights, "geometric")
    for other in rng.dirichlet(np.ones(6), 50):
        assert weights @ kl(teachers, np.tile(a, (3, 1))) <= weights @ kl(teachers, np.tile(other, (3, 1)))
        assert weights @ kl(np.tile(g, (3, 1)), teachers) <= weights @ kl(np.tile(other, (3, 1)), teachers)
        assert kl(a, other) <= weights @ kl(teachers, np.tile(other, (3, 1))) + 1e-12


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
@pytest.mark.parametrize("operator", [soften, soften_uniform])
def test_softening(operator, seed, temperature):
    p = np.random.default_rng(seed).dirichlet(np.ones(7))
    out = operator(p, temperature)
    assert entropy(operator(p, temperature * 1.3)) >= entropy(out) - 1e-12
    assert (np.argsort(out, kind="stable") == np.argsort(p, kind="stable")).all()
    assert_allclose(operator(p, 1.0), p, atol=1e-12)
    assert_allclose(operator(p, 1e6), np.full(7, 1 / 7), atol=1e-4)
    z = np.log(p) * 3
    assert_allclose(soften(np.exp(z - z.max()) / np.exp(z - z.max()).sum(), 3.0), p, atol=1e-9)


def test_generations_plateau_and_choice():
    p, q, _ = (x[0] for x in triples(1, seed=3))
    first = float(kl(q, p))
    t = generations_to(0.01, first, 0.2)
    assert bounds(first, 0.0, [0.2] * t)[-1] <= 0.01 < bounds(first, 0.0, [0.2] * (t - 1))[-1]
    lineage = recursive_distill([q], lambda target, t: target, weight=0.2, generations=t, start=p)
    assert lineage.forward[-1] <= 0.01
    assert generations_to(0.5, 0.1, 0.2) == 0 and generations_to(1e-9, 1.0, 1.0) == 1
    assert plateau(0.1, 0.0) == np.inf
    assert plateau(0.03, choose_lambda(0.03, 0.3)) == pytest.approx(0.3)
    assert_allclose(bounds(1.0, 0.0, [1 / (k + 2) for k in range(999)])[-1], 1 / 1000)  # Σ λ diverges
    assert bounds(1.0, 0.0, [1 / (k + 2) ** 2 for k in range(999)])[-1] > 0.5  # Σ λ converges
    assert (np.diff(bounds(0.0, 0.1, [0.0] * 9)) > 0).all()


def refit(rng, samples):
    """A student that sees samples of its target, add one half."""

    def fit(target, t):
        counts = rng.multinomial(samples, target) + 0.5
        return counts / counts.sum(-1, keepdims=True)

    return fit


def test_students_with_errors_settle_below_the_plateau_and_drift_without_an_anchor():
    q = np.random.default_rng(4).dirichlet(np.ones(20), 200)
    ends = []
    for weight in (0.0, 0.2, 0.5, 1.0):
        lineage = recursive_distill([q], refit(np.random.default_rng(5), 200), weight=weight, generations=30)
        ends.append(lineage.forward[-1])
        assert lineage.forward[-1] < lineage.plateau
        assert ("drift" in lineage.summary()) == lineage.drifts == lineage.to_dict()["drifts"]
    # differences of the ends are above 0.03, their s.e. over 200 inputs below 0.005
    assert (np.diff(ends) < 0).all()
    stopped = recursive_distill([q], refit(np.random.default_rng(5), 200), weight=0.0, generations=30, tolerance=0.0)
    assert len(stopped.forward) < 30 and stopped.drifts
    far = np.full_like(q, 1 / 20)
    stopped = recursive_distill([q], lambda m, t: m, weight=0.3, generations=99, start=far, tolerance=1e-3)
    assert len(stopped.forward) < 30 and stopped.forward[-1] < 1e-3


def test_several_teachers_attract_to_their_aggregate_and_labels_give_accuracy():
    teachers = np.stack([triples(50)[0], triples(50)[1]])
    labels = teachers.mean(0).argmax(-1)
    lineage = recursive_distill(
        teachers, lambda m, t: m, weight=0.5, generations=60, start=triples(50, seed=9)[0], labels=labels
    )
    assert_allclose(lineage.student, teachers.mean(0), atol=1e-10)
    assert lineage.accuracy[-1] == lineage.agreement[-1] == 1.0 and lineage.accuracy[0] < 1
    assert "accuracy" in lineage.summary()


def softmax(z):
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


@pytest.mark.parametrize(
    ("operator", "kind", "failing"),
    [
        (soften, "softening", set()),
        (soften_uniform, "softening", set()),
        (lambda p, t: (p == p.max()) / (p == p.max()).sum(), "softening", {"identity", "ranking", "boundary"}),
        (lambda p, t: softmax(-np.log(p + 1e-9) / t), "softening", {"identity", "ranking"}),
        (lambda p, t: soften(p, 1 / t), "softening", {"entropy monotonicity", "boundary"}),
        (aggregate, "aggregation", set()),
        (lambda p, w: aggregate(p, w, "geometric"), "aggregation", set()),
        (lambda p, w: p.mean(0), "aggregation", {"weight monotonicity"}),
        (lambda p, w: p[np.argmax(w)], "aggregation", {"weight monotonicity"}),
        (lambda p, w: w @ p / 2, "aggregation", {"validity", "convexity"}),
        (anchor, "anchor", set()),
        (lambda p, q, w: anchor(p, q, w, "geometric"), "anchor", set()),
        (lambda p, q, w: anchor(p, q, w / 2), "anchor", {"anchoring"}),
        (lambda p, q, w: p, "anchor", {"anchoring", "monotonicity"}),
        (lambda p, q, w: anchor(soften(p, 2.0), soften(q, 2.0), w), "anchor", {"fixed point"}),
        (lambda p, q, w: p * np.nan, "anchor", {"validity", "fixed point", "anchoring"}),
    ],
)
def test_validation_finds_what_is_wrong(operator, kind, failing):
    found = validate_operator(operator, kind)
    wrong = {axiom for axiom, example in found.axioms.items() if example}
    assert wrong >= failing and (bool(failing) != found.admissible)
    assert found.to_dict()["admissible"] is found.admissible
    assert len(found.summary().splitlines()) == len(found.axioms)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: soften([0.5, 0.5], 0.0), "must be positive"),
        (lambda: aggregate([[0.5, 0.5]], [0.5]), "1 weights"),
        (lambda: aggregate([[0.5, 0.5], [0.1, 0.9]], [1.5, -0.5]), "not negative"),
        (lambda: kl([0.5, -0.5], [0.5, 0.5]), "finite and not negative"),
        (lambda: kl([0.0, 0.0], [0.5, 0.5]), "no row of them all zero"),
        (lambda: generations_to(0.1, 1.0, 0.0), "does not converge"),
        (lambda: choose_lambda(0.2, 0.1), "no anchor brings"),
        (lambda: validate_operator(soften, "sharpening"), "softening, aggregation or anchor"),
        (lambda: recursive_distill([[0.5, 0.5]], lambda m, t: m * np.nan, weight=0.5), "finite"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(LimbeckError, match=words):
        call()
