from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose

from limbeck.diffusion import features
from limbeck.diffusion.features import FeatureNetwork, feature_network, to_pixels, to_signal
from limbeck.distill import Labelled, labelled, read_data
from limbeck.errors import ConfigError


@pytest.fixture(scope="module")
def digits() -> Labelled:
    return read_data("digits")


@pytest.fixture(scope="module")
def folder(digits: Labelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features")
    feature_network(digits, out)
    return out


def stripes(size: int, count: int = 60) -> Labelled:
    """Pictures with a bright upper or lower half."""
    x = 0.2 * torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    y = torch.arange(count) % 2
    x[y == 0, :, : size // 2] += 0.7
    x[y == 1, :, size // 2 :] += 0.7
    return labelled(x.numpy(), y.numpy())


def test_pixels_and_signal_are_each_other_s_inverse() -> None:
    pixels = torch.linspace(0, 1, 9)
    assert to_signal(pixels)[0] == -1 and to_signal(pixels)[-1] == 1
    assert_allclose(to_pixels(to_signal(pixels)), pixels)


def test_digits_are_known_and_kept(digits: Labelled, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_train", None)  # it must be read
    network = feature_network(digits, folder)
    assert float(network.accuracy) == pytest.approx(0.972, abs=0.035)  # s.e. of 359 digits 0.009
    x = to_signal(digits.inputs)
    assert network.features(x[:3]).shape == (3, 32) and float(network.features(x).min()) == 0
    assert float((network.labels(x) == digits.labels).double().mean()) > 0.98
    assert network.describe() == f"32 features of a classifier, {100 * network.accuracy:.1f} % right"
    with pytest.raises(ConfigError, match="choose another"):
        feature_network(digits, folder, seed=1)
    (folder / "features.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match="delete it"):
        feature_network(digits, folder)


def test_a_seed_makes_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(features, "STEPS", 20)
    data, state = stripes(8), torch.random.get_rng_state()
    first, same, other = (feature_network(data, tmp_path / str(k), seed=k // 2) for k in (0, 1, 2))
    assert torch.equal(first.head.weight, same.head.weight) and not torch.equal(first.head.weight, other.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers were drawn
    read, x = feature_network(data, tmp_path / "2", seed=1), to_signal(data.inputs)
    assert torch.equal(read.features(x), other.features(x)) and torch.equal(read.accuracy, other.accuracy)
    monkeypatch.setattr(features, "_train", lambda network, data, seed: None)
    drawn = [feature_network(data, seed=seed).head.weight for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_larger_pictures_are_read_by_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 15)
    data = stripes(28)
    network = feature_network(data)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in network.modules()) == 2
    assert network.features(to_signal(data.inputs)).shape == (60, 32) and float(network.accuracy) == 1
    assert not any(isinstance(layer, torch.nn.Conv2d) for layer in FeatureNetwork([1, 16, 16], 2).modules())


def test_without_classes_features_are_principal_components() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(300, 1, 6, 6, generator=random).clamp(-2, 2) * torch.linspace(0.01, 0.3, 36).reshape(6, 6)
    network = feature_network(labelled(to_pixels(x).numpy(), [0] * 300))
    found = network.features(x)
    assert found.shape == (300, 20) and float(found.mean(0).abs().max()) < 1e-5
    covariance = torch.cov(x.flatten(1).double().T)
    largest = torch.linalg.eigvalsh(covariance).flip(0)[:20]
    assert_allclose(torch.cov(found.T), torch.diag(largest), atol=1e-6)
    with pytest.raises(ConfigError, match="principal components"):
        network.labels(x)
