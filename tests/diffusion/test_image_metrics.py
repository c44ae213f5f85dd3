import json
import math

import pytest
import torch
from numpy.testing import assert_allclose

from limbeck.diffusion import metrics
from limbeck.diffusion.features import FeatureNetwork, feature_network, to_signal
from limbeck.diffusion.metrics import diversity, frechet, judge_images, nearest_training
from limbeck.diffusion.metrics import precision_recall_coverage as overlap
from limbeck.distill import Labelled, labelled, read_data
from limbeck.errors import ConfigError, TrainingError


@pytest.fixture(scope="module")
def digits() -> Labelled:
    return read_data("digits")


@pytest.fixture(scope="module")
def network(digits: Labelled) -> FeatureNetwork:
    return feature_network(digits)


def normal(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_of_gaussians() -> None:
    x = normal(500, 4, 0)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)).T)  # mean 0, covariance 1
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), torch.tensor([2.0, 2.0, 1.0, 0.0]).double()
    shift = torch.tensor([1.0, 0.0, -2.0, 0.0]).double()
    assert frechet(x * a, x * b + shift) == pytest.approx(float(((a - b) ** 2).sum() + 5), rel=1e-7)
    # covariances that do not commute: tr sqrt of [[1, 0], [0, 4]] [[2, 1], [1, 2]], by its trace and determinant
    s, t = torch.diag(torch.tensor([1.0, 4.0])).double(), torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
    y = x[:, :2]
    root = math.sqrt(float((s @ t).trace()) + 2 * math.sqrt(float(torch.linalg.det(s @ t))))
    found = frechet(y @ torch.linalg.cholesky(s).T, y @ torch.linalg.cholesky(t).T)
    assert found == pytest.approx(5 + 4 - 2 * root, rel=1e-7)
    assert frechet(x, x) == pytest.approx(0, abs=1e-7)


def test_pictures_of_a_student_that_diverged_end_no_process() -> None:
    a = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    for bad in (a * math.nan, a.double() * 1e160):
        with pytest.raises(TrainingError, match="Lower lr"):
            frechet(a, bad)


def test_precision_and_recall_tell_quality_from_variety() -> None:
    left, right = normal(300, 2, 1), normal(300, 2, 2) + torch.tensor([20.0, 0.0])
    real = torch.cat([left, right])
    dropped = overlap(real, normal(600, 2, 3))  # one mode of two
    assert dropped.precision > 0.93 and dropped.recall == pytest.approx(0.5, abs=0.04)
    assert dropped.coverage == pytest.approx(0.5, abs=0.01)
    astray = overlap(real, torch.cat([real + 0.01, real + torch.tensor([0.0, 90.0])]))
    assert astray.precision == 0.5 and astray.recall == 1 and astray.coverage == 1
    assert overlap(real, real).density == pytest.approx(6 / 5, abs=0.05)  # each ball holds itself and 5


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = normal(90, 3, 4), normal(70, 3, 5)
    whole = overlap(real, fake), nearest_training(fake, real)
    monkeypatch.setattr(metrics, "CHUNK", 7)
    assert (overlap(real, fake), nearest_training(fake, real)) == whole


def test_copies_are_detected() -> None:
    train, fresh = normal(400, 8, 6), normal(400, 8, 7)
    copied = nearest_training(train[:100] + 1e-3 * fresh[:100], train)
    assert copied.share == 1 and copied.ratio < 0.01
    honest = nearest_training(fresh, train)
    assert honest.share == pytest.approx(0.05, abs=0.045) and honest.ratio == pytest.approx(1, abs=0.05)
    mixed = nearest_training(torch.cat([train[:200], fresh[:200]]), train)
    assert mixed.share == pytest.approx(0.525, abs=0.04)


def test_diversity_is_of_one_class_each() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0], [100.0, 1.0], [50.0, 0.0]])
    assert diversity(x, torch.tensor([0, 0, 1, 1, 2])) == pytest.approx((5 + 1) / 2)
    assert diversity(x[:2]) == pytest.approx(5)


def test_floors_of_digits(network: FeatureNetwork, digits: Labelled) -> None:
    found = judge_images(network, digits, to_signal(digits.inputs), digits.labels)
    floor = found.floor
    assert floor.count == 898 and found.found.count == 1797
    assert floor.frechet == pytest.approx(3.68, abs=1.5)  # 2.6 to 4.1 over networks and halves
    wanted = [0.979, 0.971, 0.974]
    assert_allclose([floor.precision, floor.recall, floor.coverage], wanted, atol=0.02)
    assert floor.memorised == pytest.approx(1, abs=0.03) and floor.copies == pytest.approx(0.05, abs=0.03)
    assert found.found.frechet == pytest.approx(0, abs=1e-6) and (found.found.accuracy or 0) > 0.98
    assert found.found.copies == 1 and found.found.memorised == pytest.approx(0, abs=1e-6)  # they are copies
    assert f"{floor.frechet:.4g}" in found.summary() and network.describe() in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["floor"]["count"] == 898


def test_blurred_digits_look_right_and_are_poor(network: FeatureNetwork, digits: Labelled) -> None:
    x, y = to_signal(digits.inputs), digits.labels
    means = torch.stack([x[y == k].mean(0) for k in range(10)])[y]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    blurred = judge_images(network, digits, means + 0.01 * noise, y, count=600)
    assert blurred.found.count == 600 and blurred.floor.count == 600
    assert blurred.found.accuracy == 1 and blurred.found.recall < 0.05 and blurred.found.coverage < 0.3
    assert blurred.found.frechet > 3 * blurred.floor.frechet and blurred.found.frechet_scaled > 1
    assert blurred.found.diversity < 0.1 * blurred.floor.diversity
    fresh = judge_images(network, digits, means + 0.01 * noise, y, count=600, train=digits)
    assert fresh.found.frechet == blurred.found.frechet and fresh.found.copies <= blurred.found.copies + 0.05


def test_without_classes_no_accuracy_is_told(digits: Labelled) -> None:
    data = labelled(digits.inputs[:100].numpy(), [0] * 100)
    found = judge_images(feature_network(data), data, to_signal(data.inputs))
    assert found.found.accuracy is None and "accuracy" not in found.summary() and "20 principal" in found.summary()


def test_mistakes_are_named(network: FeatureNetwork, digits: Labelled) -> None:
    x = to_signal(digits.inputs)
    with pytest.raises(ConfigError, match="1797 pictures of each set are compared, 500 are generated"):
        judge_images(network, digits, x[:500], digits.labels[:500])
    with pytest.raises(ConfigError, match="shape"):
        judge_images(network, digits, x.flatten(1), digits.labels)
    with pytest.raises(ConfigError, match="finite"):
        judge_images(network, digits, x * math.inf, digits.labels)
