import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_classes import network, pictures, points, sure
from torch import Tensor, nn

from limbeck.distill import forward_kl
from limbeck.errors import ConfigError, TrainingError
from limbeck.runs import read_runs
from limbeck.vision import Augmentation, Network, Regime, distill, labelled

QUICK = Regime(steps=12, batch=20)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([one.detach().flatten() for one in module.parameters()])


def test_one_step_is_the_gradient_of_the_method() -> None:
    data, student = points(20), network(5)
    copy = network(5)
    order = np.random.default_rng([3, 0]).permutation(20)
    x, y = data.inputs[order], data.labels[order]
    loss = 0.9 * forward_kl(copy(x), sure(x), temperature=4.0, tau_squared=True)
    (loss + 0.1 * nn.functional.cross_entropy(copy(x), y)).backward()
    with torch.no_grad():
        for one in copy.parameters():
            one -= 0.5 * one.grad
    regime = Regime(steps=1, batch=20, learning_rate=0.5, optimizer="sgd", schedule="constant")
    distill(sure, student, data, regime=regime, seed=3, progress=False)
    torch.testing.assert_close(weights(student), weights(copy))


def test_an_epoch_sees_every_example_once() -> None:
    data, seen = points(60), list[int]()

    class Watching:
        def __call__(self, batch: Any) -> Tensor:
            seen.extend(batch.rows.tolist())
            return sure(batch.inputs)

        def describe(self) -> str:
            return "watching"

    distill(Watching(), network(2), data, regime=Regime(steps=6, batch=20), progress=False)
    epochs = seen[4:64], seen[64:]  # after the check on four examples
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(60)) and epochs[0] != epochs[1]


def test_teacher_and_student_see_the_same_change() -> None:
    class Listening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.seen = network(3, shape=(1, 8, 8)), list[Tensor]()

        def forward(self, x: Tensor) -> Any:
            self.seen.append(x)
            return self.inner(x)

    teacher, student = Listening(), Listening()
    distill(teacher, student, pictures(), regime=QUICK, augmentation=Augmentation(shift=0.3), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(teacher.seen[1:], student.seen, strict=True))
    assert not torch.equal(student.seen[0].sort(0).values, student.seen[1].sort(0).values)


def test_two_views_are_two() -> None:
    seen = list[Tensor]()

    def watching(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1)[:, :3]

    how: dict[str, Any] = {"augmentation": Augmentation(shift=0.3), "regime": Regime(steps=1), "progress": False}
    distill(watching, network(2, shape=(1, 8, 8)), pictures(), loss="mlkd", **how)
    assert len(seen) == 3 and not torch.equal(seen[1], seen[2])  # after the check on four examples


def test_kept_answers_train_the_same_student(tmp_path: Path) -> None:
    def trained(**how: Any) -> Tensor:
        teacher, student = (network(width, seed=width, shape=(1, 8, 8)) for width in (9, 4))
        change = Augmentation(shift=0.3, views=2)
        distill(teacher, student, pictures(), augmentation=change, regime=QUICK, progress=False, **how)
        return weights(student)

    torch.testing.assert_close(trained(keep=tmp_path), trained(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fitnet", "rkd", "sp", "pkt"])
def test_features_leave_nothing_on_the_student(name: str) -> None:
    data, teacher, student = points(), network(9, seed=1), network(5)
    before = weights(student).clone()
    found = distill(teacher, student, data, loss={"name": name, "features": {"2": "2"}}, regime=QUICK, progress=False)
    assert found.extra_params == (5 * 9 + 9 if name == "fitnet" else 0)
    assert list(student.state_dict()) == list(network(5).state_dict()) and not torch.equal(weights(student), before)
    assert not any(one._forward_hooks for one in (*student.modules(), *teacher.modules()))
    torch.testing.assert_close(weights(teacher), weights(network(9, seed=1)), rtol=0, atol=0)


def test_features_move_the_student_by_themselves() -> None:
    data, runs = points(), list[Tensor]()
    for weight in (0.0, 100.0):
        student = network(5)
        method = {"name": "fitnet", "features": {"2": "2"}, "feature_weight": weight}
        distill(network(9, seed=1), student, data, loss=method, regime=QUICK, progress=False)
        runs.append(weights(student))
    assert (runs[0] - runs[1]).abs().max() > 1e-3


def test_at_compares_maps() -> None:
    teacher, student = (Network(channels=(width,)).build([1, 8, 8], 3, width) for width in (6, 3))
    found = distill(
        teacher, student, pictures(), loss={"name": "at", "features": {"0": "0"}}, regime=QUICK, progress=False
    )
    assert found.extra_params == 0


def test_contrast_has_memories_of_the_whole_data_and_resumes(tmp_path: Path) -> None:
    method, data = {"name": "crd", "features": {"2": "2"}}, points(40)

    def run(out: Path, steps: int = 130, fail: bool = False) -> Tensor:
        student, calls = network(5), [0]

        def count(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[0] += 1
            if fail and calls[0] > 110:
                raise ConnectionError

        teacher = network(9, seed=1)
        teacher.register_forward_hook(count)
        distill(teacher, student, data, loss=method, regime=Regime(steps, 10), out=out, progress=False)
        return weights(student)

    whole = run(tmp_path / "whole")
    with pytest.raises(ConnectionError):
        run(tmp_path / "cut", fail=True)
    torch.testing.assert_close(run(tmp_path / "cut"), whole, rtol=0, atol=0)


def test_review_joins_stages() -> None:
    teacher, student = (Network(channels=(width, 2 * width)).build([1, 8, 8], 3, width) for width in (6, 3))
    method = {"name": "review", "features": {"0": "0", "3": "3"}, "feature_weight": 1.0}
    found = distill(teacher, student, pictures(), loss=method, regime=QUICK, progress=False)
    assert found.extra_params > 0 and list(student.state_dict()) == [
        f"{k}.{name}" for k in (0, 3, 7) for name in ("weight", "bias")
    ]


def test_attention_needs_maps() -> None:
    with pytest.raises(ConfigError, match="compares maps"):
        distill(network(4), network(3), points(), loss={"name": "at", "features": {"2": "2"}}, progress=False)


def test_dropout_is_drawn_with_the_seed() -> None:
    def trained(seed: int) -> Tensor:
        student = Network(hidden=(8,), dropout=0.5).build([4], 3, 0)
        distill(sure, student, points(), regime=QUICK, seed=seed, progress=False)
        return weights(student)

    first = trained(1)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    torch.testing.assert_close(trained(1), first, rtol=0, atol=0)
    assert not torch.equal(trained(1), trained(2)) and torch.equal(torch.get_rng_state(), state)


def stopping(at: int) -> Callable[[Tensor], Tensor]:
    """A teacher that is lost at a step."""
    asked = [0]

    def sure(x: Tensor) -> Tensor:
        asked[0] += 1
        if asked[0] > at:
            raise ConnectionError("the teacher is gone")
        return 3 * x[:, :3]

    return sure


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    regime, data = Regime(steps=230, batch=10), points(40)

    def run(teacher: Any, out: Path, seed: int = 0) -> Tensor:
        student = Network(hidden=(8,), dropout=0.5).build([4], 3, 0)
        distill(teacher, student, data, test=data, regime=regime, seed=seed, out=out, progress=False)
        return weights(student)

    teacher = stopping(10**9)
    whole = run(teacher, tmp_path / "whole")
    with pytest.raises(ConnectionError):
        run(stopping(150), tmp_path / "cut")
    assert sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1].name == "step-00000100"
    torch.testing.assert_close(run(stopping(10**9), tmp_path / "cut"), whole, rtol=0, atol=0)
    rows = [json.loads((tmp_path / name / "runs.jsonl").read_text().splitlines()[-1]) for name in ("whole", "cut")]
    assert {**rows[0], "run": ""} == {**rows[1], "run": ""} and rows[0]["step"] == 230
    with pytest.raises(TrainingError, match=r"seed: 0 in the checkpoint, 1 now"):
        run(teacher, tmp_path / "whole", seed=1)


def test_records_can_be_read_as_runs(tmp_path: Path) -> None:
    data, test = points(80).split(0)
    regime = Regime(steps=30, batch=10, evaluate_every=10)
    found = distill(sure, network(4), data, test=test, regime=regime, out=tmp_path / "one", progress=False)
    runs = read_runs(tmp_path / "one" / "runs.jsonl")
    assert runs.column("samples").tolist() == [100, 200, 300] and runs.column("params").tolist() == [35] * 3
    assert found.judged is not None and runs.column("loss")[-1] == pytest.approx(found.judged.student.loss)
    assert list(found.evaluations) == [10, 20, 30] and found.params == 35
    row = json.loads((tmp_path / "one" / "runs.jsonl").read_text().splitlines()[-1])
    assert row["teacher_accuracy"] == found.judged.teacher.accuracy and row["train/student/teacher_accuracy"] > 0.9


def test_labels_alone_need_no_teacher_and_others_do() -> None:
    data = points(120)
    found = distill(None, network(8), data, loss="ce", test=data, regime=Regime(steps=200), progress=False)
    assert found.judged is not None and found.judged.student.accuracy > 0.95 and found.notes == ()
    with pytest.raises(ConfigError, match="needs a teacher"):
        distill(None, network(8), data, progress=False)


def test_a_teacher_that_is_too_sure_for_a_ranking() -> None:
    data = points()
    steps: dict[str, Any] = {"regime": QUICK, "test": data, "progress": False}
    found = distill(lambda x: 99 * x[:, :3], network(4), data, loss="pld", **steps)
    assert any("Raise options: {teacher_temperature: 4}" in note for note in found.notes)
    for other in ({"name": "pld", "options": {"weights": "uniform"}}, "kd"):
        assert not any("ranking" in note for note in distill(sure, network(4), data, loss=other, **steps).notes)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"test": points(classes=2)}, "2 classes"),
        ({"test": labelled(torch.zeros(4, 5), [0, 1, 2, 0])}, r"\[5\]"),
        ({"regime": Regime(steps=0)}, "must be positive"),
        ({"regime": Regime(optimizer="lion")}, "must be one of adam"),  # type: ignore[arg-type]
        ({"loss": {"name": "fitnet", "features": {"2": "2"}}}, "must be a network"),
        ({"augmentation": Augmentation(flip=True)}, "only pictures"),
        ({"classes": ("0", "1", "x")}, "does not know"),
    ],
)
def test_parts_that_do_not_fit(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        distill(sure, network(4), points(), progress=False, **how)


def test_the_teacher_is_asked_once_about_what_judges() -> None:
    data, test = points(80).split(0)
    asked = list[int]()

    def counting(x: Tensor) -> Tensor:
        asked.append(len(x))
        return 3 * x[:, :3]

    regime = Regime(steps=8, batch=10, evaluate_every=2)
    distill(counting, network(2), data, test=test, regime=regime, progress=False)
    assert asked.count(len(test)) == 1 and asked.count(10) == 8
