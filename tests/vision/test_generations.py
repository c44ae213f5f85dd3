"""Self-distillation over generations, and lineages that are anchored on base teachers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_classes import network, points, sure

from limbeck.distill import get_loss
from limbeck.errors import ConfigError, LimbeckError
from limbeck.theory import anchor, choose_lambda, kl
from limbeck.vision import (
    Generations,
    Regime,
    distill_generations,
    distill_lineage,
    labelled,
    load_network,
    probabilities,
    read_classifier_recipe,
    run_recipe,
)
from limbeck.vision.generations import method

SHORT = Regime(steps=40, learning_rate=0.02)
LEARN, VALID, TEST = points(60, 0), points(80, 1), points(80, 2)


def rounds(alpha: Any, **more: Any) -> Generations:
    given: dict[str, Any] = {"valid": VALID, "test": TEST, "rounds": 2, "decays": (), "regime": SHORT}
    return distill_generations(lambda number: network(8), LEARN, alpha=alpha, progress=False, **given | more)


def lineage(teachers: Any = (sure,), **more: Any) -> Generations:
    given: dict[str, Any] = {"valid": VALID, "test": TEST, "rounds": 4, "regime": SHORT}
    return distill_lineage(
        list(teachers), lambda number: network(8, seed=number), LEARN, progress=False, **given | more
    )


def test_the_loss_is_the_published_mixture() -> None:
    student, teacher = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([0, 3, 1, 2, 2])
    q, mse = student.softmax(-1), torch.nn.functional.mse_loss
    expected = 0.3 * mse(q, torch.eye(4).double()[y]) + 0.7 * mse(q, teacher.softmax(-1))
    function = get_loss("squared_probabilities").function
    torch.testing.assert_close(function(student, teacher, y, alpha=0.3), expected)
    torch.testing.assert_close(function(student, teacher), mse(q, teacher.softmax(-1)))
    parts = method("ce", 0.3).parts(student, teacher, y, 0.0)
    ce = torch.nn.functional.cross_entropy
    entropy = -(teacher.softmax(-1) * teacher.log_softmax(-1)).sum(-1).mean()
    mixed = 0.3 * ce(student, y) + 0.7 * (ce(student, teacher.softmax(-1)) - entropy)
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(), mixed)


@pytest.mark.parametrize("loss", ["mse_prob", "ce"])
def test_labels_alone_repeat_the_first_generation(loss: str) -> None:
    found = rounds([1.0, 0.0], loss=loss)
    first, same, taught = (probabilities(one, TEST) for one in found.students)
    assert_allclose(same, first, atol=1e-6)
    assert np.abs(taught - first).max() > 1e-3
    assert found.generations[1].judged.agreement == 1.0
    assert [one.weight for one in found.generations] == [1.0, 1.0, 0.0]


def test_the_estimate_is_the_formula_on_validation_probabilities(tmp_path: Path) -> None:
    found = rounds("estimate", rounds=1, out=tmp_path)
    taught = rounds(0.0, rounds=1).students[1]
    f1, f0 = probabilities(found.students[0], VALID), probabilities(taught, VALID)
    y = np.eye(3)[VALID.labels]
    expected = ((y - f0) * (f1 - f0)).sum() / ((f1 - f0) ** 2).sum()
    one = found.generations[1]
    assert one.unclipped == pytest.approx(expected, rel=1e-9)
    assert one.weight == min(max(expected, 0.0), 1.0)
    assert one.distance == pytest.approx(((probabilities(found.students[1], VALID) - y) ** 2).sum(-1).mean())
    folders = {path.name for path in tmp_path.iterdir()}
    assert folders == {"generation-0", "generation-1", "generation-1-taught"} - (
        {"generation-1"} if one.weight == 0 else set()
    )
    record = json.loads((tmp_path / "generation-0" / "runs.jsonl").read_text().splitlines()[-1])
    assert record["alpha"] == 1.0 and record["recipe"] == "self-distillation"


def test_cross_entropy_is_estimated_at_the_least_of_the_mixture() -> None:
    found, taught = rounds("estimate", rounds=1, loss="ce"), rounds(0.0, rounds=1, loss="ce").students[1]
    f1, f0 = (probabilities(one, VALID)[np.arange(80), VALID.labels] for one in (found.students[0], taught))
    grid = np.linspace(0, 1, 1001)
    costs = [-np.log(a * f1 + (1 - a) * f0).mean() for a in grid]
    assert found.generations[1].weight == pytest.approx(grid[int(np.argmin(costs))], abs=2e-3)
    assert found.generations[0].distance == pytest.approx(-np.log(f1).mean())


@pytest.mark.parametrize(("rate", "weight"), [(0.01, 1.0), (0.1, 0.0)])
def test_an_estimate_that_leaves_all_to_the_labels_says_what_it_means(rate: float, weight: float) -> None:
    found = rounds("estimate", rounds=1, regime=Regime(steps=300, learning_rate=rate))
    assert found.generations[1].weight == weight
    assert ("gains nothing" in found.notes[-1]) == (weight == 1.0)
    assert "gains nothing" not in rounds(1.0, rounds=1).notes[-1]


def test_the_baseline_is_the_weight_decay_that_validation_prefers() -> None:
    found = rounds(0.5, rounds=1, decays=(0.03, 3.0))
    assert set(found.decays) == {0.0, 0.03, 3.0} and found.decays[3.0] > found.decays[0.0]
    assert found.decays[0.0] == found.generations[0].distance
    best = min(found.decays, key=lambda one: found.decays[one])
    assert f"weight decay {best:g}" in found.notes[0]
    assert f"{best:g}: {found.decays[best]:.4f} off" in found.notes[0]
    assert found.generations[found.best].distance == min(one.distance for one in found.generations)
    said = json.loads(json.dumps(found.to_dict()))
    assert said["baseline"]["accuracy"] == found.baseline.accuracy and said["lineage"] is None  # type: ignore[union-attr]
    assert len(found.summary().splitlines()) == 4


def test_finished_generations_are_not_repeated_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_generations as t
made = []
def student(number):
    made.append(number)
    if len(made) == 3 and "KILL" in os.environ:
        os.kill(os.getpid(), 9)
    return t.network(8)
found = t.distill_generations(student, t.LEARN, valid=t.VALID, test=t.TEST, rounds=2, alpha=0.5, decays=(),
    regime=t.SHORT, progress=False, out={str(tmp_path / "killed")!r})
print(t.probabilities(found.students[-1], t.TEST).tobytes().hex()[:2000])
"""
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ | {"KILL": "1"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("tensors.pt")}
    assert {path.parts[-4] for path in before} == {"generation-0", "generation-1"}
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    whole = rounds(0.5)
    assert again.stdout.strip() == probabilities(whole.students[-1], TEST).tobytes().hex()[:2000]


def test_validation_examples_are_kept_apart() -> None:
    with pytest.raises(ConfigError, match="most validation examples"):
        rounds(0.5, valid=TEST)
    with pytest.raises(ConfigError, match="most validation examples"):
        lineage(valid=LEARN)
    with pytest.raises(ConfigError, match="every label"):
        rounds(0.5, test=labelled(TEST.inputs, np.full(80, -1), ("0", "1", "2")))
    for wrong in (1.5, [0.5], "guess", [0.1, "x"]):
        with pytest.raises(ConfigError, match="alpha must be"):
            rounds(wrong)
    with pytest.raises(ConfigError, match='"mse_prob" or "ce"'):
        rounds(0.5, loss="kl")


def test_a_lineage_measures_its_base_on_validation_examples(tmp_path: Path) -> None:
    found = lineage(anchor=0.4, tolerance=None, out=tmp_path)
    q = sure(VALID.inputs).softmax(-1).numpy()
    each = [probabilities(one, VALID) for one in found.students]
    assert found.lineage is not None
    assert_allclose(found.lineage.forward, [kl(q, p).mean() for p in each], rtol=1e-5)
    meta = [q, *(anchor(p, q, 0.4) for p in each)]
    errors = [kl(q, p).mean() - kl(q, m).mean() for p, m in zip(each, meta, strict=False)]
    assert_allclose(found.lineage.errors, errors, rtol=1e-4, atol=1e-7)
    right = [(p.argmax(-1) == VALID.labels.numpy()).mean() for p in each]
    assert_allclose(found.lineage.accuracy, right)
    judged = found.generations[-1].judged
    assert judged.teacher.accuracy == 1.0 and judged.examples == 80
    assert judged.student.accuracy == (probabilities(found.student, TEST).argmax(-1) == TEST.labels.numpy()).mean()
    assert {path.name for path in tmp_path.iterdir()} == {f"generation-{k}" for k in range(4)}
    assert "anchor 0.4" in found.summary() and json.loads(json.dumps(found.to_dict()))["baseline"] is None


def test_a_weight_of_one_learns_from_the_base_alone_and_zero_from_the_last() -> None:
    same = {"tolerance": None, "rounds": 2}
    firm, free = lineage(anchor=1.0, **same), lineage(anchor=0.0, **same)
    alone = distill_lineage(
        [sure], lambda number: network(8, seed=1), LEARN, valid=VALID, test=TEST, rounds=1, regime=SHORT, progress=False
    )
    assert_allclose(probabilities(firm.students[1], TEST), probabilities(alone.students[0], TEST), atol=1e-6)
    assert_allclose(probabilities(free.students[0], TEST), probabilities(firm.students[0], TEST), atol=1e-6)
    assert np.abs(probabilities(free.students[1], TEST) - probabilities(firm.students[1], TEST)).max() > 1e-3


def test_lambda_is_chosen_from_the_error_of_the_first_generation() -> None:
    first = lineage(rounds=1).lineage
    assert first is not None
    error = first.errors[0]
    found = lineage(anchor="auto", target=3 * error, rounds=2, tolerance=None)
    assert found.generations[0].weight == pytest.approx(choose_lambda(error, 3 * error)) == pytest.approx(1 / 3)
    assert "λ = 0.333" in found.notes[0]
    with pytest.raises(LimbeckError, match="no anchor brings the plateau"):
        lineage(anchor="auto", target=error / 2)
    for wrong in ({"anchor": "auto"}, {"anchor": 0.3, "target": 0.1}):
        with pytest.raises(ConfigError, match="need each other"):
            lineage(**wrong)


def test_unanchored_drift_and_a_reached_plateau_stop_the_lineage() -> None:
    few = Regime(steps=6, learning_rate=0.02)
    adrift = lineage(anchor=0.0, rounds=12, regime=few)
    assert adrift.lineage is not None and adrift.lineage.drifts and len(adrift.students) < 12
    assert (np.diff(adrift.lineage.forward[-4:]) > 0).all() and "unanchored drift" in adrift.notes[-1]
    held = lineage(anchor=0.9, rounds=12)
    assert held.lineage is not None and len(held.students) < 12 and held.best == len(held.students) - 1
    assert held.lineage.forward[-1] < held.lineage.forward[-2]


def test_operators_of_ones_own_replace_ours_and_bad_ones_are_refused() -> None:
    calls = []

    def half(p: Any, q: Any, weight: float) -> Any:
        calls.append(weight)
        return anchor(p, q, weight)

    same = {"anchor": 0.5, "rounds": 2, "tolerance": None}
    ours, theirs = lineage(**same), lineage(operators={"anchor": half}, **same)
    assert_allclose(probabilities(theirs.student, TEST), probabilities(ours.student, TEST), atol=1e-6)
    assert calls.count(0.5) >= 2 * (60 + 80 + 80)
    with pytest.raises(LimbeckError, match=r"this anchor is not admissible(.|\n)*anchoring: KL\(q‖M\) = "):
        lineage(operators={"anchor": lambda p, q, weight: anchor(p, q, weight / 2)})
    with pytest.raises(LimbeckError, match=r"weight monotonicity: raising weight 0 leaves KL"):
        lineage(operators={"aggregation": lambda many, weights: many.mean(0)})
    with pytest.raises(LimbeckError, match="identity"):
        lineage(operators={"softening": lambda p, t: (p == p.max()) / (p == p.max()).sum()})
    with pytest.raises(LimbeckError, match="unknown kind"):
        lineage(operators={"mixing": half})


def test_several_teachers_are_joined_by_either_mean() -> None:
    other = network(4, seed=3)
    both = {
        kind: lineage((sure, other), rounds=1, kind=kind, weights=[0.25, 0.75]) for kind in ("arithmetic", "geometric")
    }
    p = np.stack([sure(VALID.inputs).softmax(-1).numpy(), probabilities(other, VALID)])
    logs = 0.25 * np.log(p[0]) + 0.75 * np.log(p[1])
    bases = {"arithmetic": 0.25 * p[0] + 0.75 * p[1], "geometric": np.exp(logs) / np.exp(logs).sum(-1, keepdims=True)}
    for kind, found in both.items():
        assert found.lineage is not None
        assert_allclose(found.lineage.base[60:140], bases[kind], rtol=1e-4)


RECIPES = Path(__file__).parents[2] / "recipes" / "vision"


@pytest.mark.parametrize("name", ["self_distillation", "recursive"])
def test_shipped_recipes_run(name: str, tmp_path: Path) -> None:
    path = RECIPES / f"{name}.yaml"
    assert len(path.read_text().splitlines()) <= 15
    changes = [f"out={tmp_path}", "steps=20", "per_class=8", "generations.rounds=2"]
    changes += ["teacher.steps=20"] if name == "recursive" else []
    done = run_recipe(read_classifier_recipe(path, changes), progress=False)
    said = json.loads((tmp_path / "result.json").read_text())
    assert len(said["generations"]) == (3 if name == "self_distillation" else 2)
    network, kept = load_network(tmp_path / "student").network, np.load(tmp_path / "held-out.npz")
    right = (network(torch.from_numpy(kept["inputs"])).argmax(-1).numpy() == kept["labels"]).mean()
    assert right == pytest.approx(said["generations"][said["best"]]["judged"]["student"]["accuracy"])
    assert str(tmp_path) in done.summary() and "generations" in done.summary()
    made = {one.name for one in tmp_path.iterdir() if one.is_dir()}
    expected = {"student", "teacher-1", "generation-0", "generation-1"}
    assert made >= (
        expected if name == "recursive" else expected - {"teacher-1"} | {"generation-2-taught", "decay-0.001"}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generations": {"anchor": 0.3}}, "an anchor needs a teacher"),
        ({"generations": {}, "method": "kd"}, "make no use of method"),
        ({"generations": {}, "teacher": {"hidden": [8]}}, "make no use of teacher"),
        ({"generations": {"anchor": 0.3}, "teacher": {"hidden": [8]}, "keep": True}, "make no use of keep"),
        ({"generations": {"alpha": "guess"}}, "alpha"),
        ({"generations": {"valid": 1.0}}, "valid"),
        ({"generations": {"anchr": 0.3}}, 'Did you mean "anchor"'),
    ],
)
def test_a_recipe_of_generations_refuses_what_it_cannot_use(changes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_recipe({"data": "digits", "student": {"hidden": [8]}, "out": tmp_path} | changes, progress=False)
