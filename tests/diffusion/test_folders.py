"""Folders of models: what is written comes back whole, and what does not fit is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.diffusion.continuous import TwoTimes
from limbeck.diffusion.denoisers import Preconditioned, Translated, guided
from limbeck.diffusion.folders import load_model, save_model
from limbeck.diffusion.multi_student import Bundle
from limbeck.diffusion.networks import Diffusers, ResidualPerceptron, Sizes
from limbeck.diffusion.schedules import DDPM, RectifiedFlow
from limbeck.diffusion.students import Student, one_network
from limbeck.errors import ConfigError

NAMES = ["a", "b", "c"]


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that all matter: networks begin with a last layer of 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in module.parameters():
            one.copy_(0.15 * torch.randn(one.shape, generator=generator))
    return module


def teacher(seed: int = 0, boundary: float = 0.0) -> Preconditioned:
    denoiser = Sizes(8, 1, clock="angle").build([2], 3, 0.7, boundary=boundary)
    lively(denoiser, seed)
    return denoiser


@pytest.mark.parametrize(
    "made",
    [
        lambda: teacher(boundary=0.01),
        lambda: lively(Sizes(8, 1, levels=2).build([1, 4, 4], 3, 0.7)),
        lambda: Translated(teacher().network, DDPM((0.9, 0.5, 0.001)), "v"),
        lambda: Translated(lively(TwoTimes(ResidualPerceptron([2], 3, Sizes(8, 1), 2))), RectifiedFlow(2.0), "u"),
    ],
    ids=["perceptron", "unet", "ddpm", "two times"],
)
def test_teachers_come_back(made: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = made().requires_grad_(False).eval()
    shape = [1, 4, 4] if isinstance(model.network, Diffusers) else [2]
    state = torch.random.get_rng_state()
    saved = load_model(save_model(model, tmp_path, shape=shape, classes=NAMES, note={"steps": 5}))
    assert torch.equal(state, torch.random.get_rng_state())
    x, sigma = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)), torch.full((3,), 0.8)
    for cond in (None, torch.tensor([0, 2, 3])):
        assert torch.equal(saved.model(x, sigma, cond), model(x, sigma, cond))
    assert (saved.kind, saved.shape, saved.classes, saved.note) == ("teacher", shape, tuple(NAMES), {"steps": 5})
    assert saved.data_std == (0.7 if isinstance(model, Preconditioned) else None)
    assert saved.params == sum(one.numel() for one in model.parameters())
    assert not saved.model.training and not any(one.requires_grad for one in saved.model.parameters())


def test_students_and_bundles_come_back(tmp_path: Path) -> None:
    phases = Student([teacher(1), teacher(2)], [[2.5, 1.0], [0.4]], renoise=False)
    bundle = Bundle([one_network(teacher(3), [2.0]), one_network(teacher(4), [1.0])], [1, 0, -1])
    noise, cond = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 0, 1])
    for kind, model, steps in (("student", phases, 3), ("bundle", bundle, 1)):
        saved = load_model(save_model(model, tmp_path / kind, shape=[2], classes=NAMES))
        assert (saved.kind, saved.model.steps, saved.data_std) == (kind, steps, 0.7)
        assert torch.equal(saved.model(noise[:, :steps], cond), model(noise[:, :steps], cond))
        changed = noise.clone()
        changed[:, 1:] += 1  # steps of the ODE need no fresh noise
        assert torch.equal(saved.model(changed[:, :steps], cond), saved.model(noise[:, :steps], cond))
    assert json.loads((tmp_path / "bundle" / "model.json").read_text())["model"]["owner"] == [1, 0, -1]
    with pytest.raises(ConfigError, match=r"make the classes \[0, 1\]"):
        saved.model(noise[:1, :1], torch.tensor([2]))


def replace_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda own: {f"module.{key}": one for key, one in own.items()},
            r"13 missing .*; 13 unknown",
        ),
        (lambda own: {key: one for key, one in own.items() if key != "network.out.bias"}, r"1 missing \(network.out.b"),
        (lambda own: own | {"x": torch.zeros(1)}, r"1 unknown \(x\)"),
        (lambda own: own | {"network.out.bias": torch.zeros(3)}, r"1 of another shape \(network.out.bias\)"),
        (lambda own: own | {"network.out.bias": torch.ones(2)}, "not the file that model.json was written with"),
    ],
    ids=["prefix", "missing", "extra", "shape", "other values"],
)
def test_weights_of_another_model_are_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, tmp_path: Path
) -> None:
    save_model(teacher(), tmp_path, shape=[2], classes=NAMES)
    replace_weights(tmp_path, change)
    with pytest.raises(ConfigError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", "{"),
        ("model.json", "[]"),
        ("model.json", '{"model": {"is": "os.system"}}'),
        ("model.json", '{"model": {"is": "Preconditioned", "data_std": 1, "command": "ls"}}'),
        ("model.safetensors", "garbage"),
    ],
)
def test_garbage_is_refused(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder of a diffusion model"):
        load_model(tmp_path)
    save_model(teacher(), tmp_path, shape=[2], classes=NAMES)
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match="not a folder of a diffusion model"):
        load_model(tmp_path)


def test_what_a_folder_cannot_describe_is_not_written(tmp_path: Path) -> None:
    adapted = teacher()
    adapted.network.out = nn.Sequential(adapted.network.out, nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"what is saved .* 4 unknown"):
        save_model(adapted, tmp_path, shape=[2], classes=NAMES)
    for model, name in ((Preconditioned(nn.Linear(2, 2)), "Linear"), (guided(teacher(), 2.0, 3), "function")):
        with pytest.raises(ConfigError, match=f"cannot describe {name}: .*Preconditioned"):
            save_model(model, tmp_path, shape=[2], classes=NAMES)
    assert not list(tmp_path.iterdir())
