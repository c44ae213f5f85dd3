"""Features captured by path, and adapters from one dry run."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.distill import adapters, captured, hint
from limbeck.errors import ConfigError


def convolutions(*channels: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU in place, for every pair of neighbours."""
    parts: list[nn.Module] = []
    for one, other in pairwise(channels):
        parts += [nn.Conv2d(one, other, 3, stride=stride, padding=1), nn.BatchNorm2d(other), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_outputs_of_the_latest_call_before_activations_in_place(images: Tensor) -> None:
    model = convolutions(3, 4, 5)
    with captured(model, ["1", "4"]) as seen:
        model(images)
        output = model(images[:2])
    assert {path: list(one.shape) for path, one in seen.items()} == {"1": [2, 4, 8, 8], "4": [2, 5, 8, 8]}
    assert seen["4"].min() < 0
    torch.testing.assert_close(seen["4"].relu(), output)
    seen["4"].square().mean().backward()
    assert model[0].weight.grad is not None and model[0].weight.grad.abs().max() > 0


def test_nothing_stays_on_the_model(images: Tensor) -> None:
    model = convolutions(3, 4)
    with captured(model, ["0"]) as outer, captured(model, ["0", "1"]) as inner:
        assert hooks(model) == 3
        model(images)
    torch.testing.assert_close(outer["0"], inner["0"])
    assert hooks(model) == 0
    with pytest.raises(RuntimeError), captured(model, ["0"]):
        model(images[:, :2])
    with pytest.raises(ConfigError), captured(model, ["0", "9"]):
        pass
    assert hooks(model) == 0


class Strange(nn.Module):
    """A recurrent part that gives a tuple, one part for two sizes, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.shared, self.unused = nn.GRU(3, 3), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(self.memory(self.shared(x))[0][:, :1])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("memry", 'no module "memry".*Did you mean "memory"'),
        ("memory", '"memory" gives a tuple, no tensor: name a module inside'),
        ("shared", r'"shared" is called with several shapes \[\[2, 4, 3\], \[2, 1, 3\]\]'),
        ("unused", "modules unused are never called"),
    ],
)
def test_paths_that_give_nothing_steady_are_refused_at_once(path: str, words: str) -> None:
    student, teacher = Strange(), nn.Sequential(nn.Linear(3, 5))
    for pairs, models in (({path: "0"}, (student, teacher)), ({"0": path}, (teacher, student))):
        with pytest.raises(ConfigError, match=words):
            adapters(*models, pairs, torch.zeros(2, 4, 3))
        assert hooks(student) == 0 and student.training and student.memory.training


@pytest.mark.parametrize(
    ("size", "wanted", "kind", "kernel"),
    [
        (8, 4, nn.Conv2d, (3, 3)),
        (4, 8, nn.ConvTranspose2d, (4, 4)),
        (8, 8, nn.Conv2d, (1, 1)),
        (8, 6, nn.Conv2d, (3, 3)),
    ],
)
def test_maps_are_brought_to_the_teachers_shape(size: int, wanted: int, kind: type, kernel: tuple[int, int]) -> None:
    student = nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Conv2d(3, 4, 1))
    teacher = nn.Sequential(nn.AdaptiveAvgPool2d(wanted), nn.Conv2d(3, 6, 1))
    images = torch.randn(2, 3, 16, 16)
    (made,) = adapters(student, teacher, {"1": "1"}, images)
    assert isinstance(made[0], kind) and made[0].kernel_size == kernel
    assert made(student(images)).shape == teacher(images).shape
    assert sum(one.numel() for one in made.parameters()) == kernel[0] * kernel[1] * 4 * 6 + 6 + 12


def test_shapes_that_no_adapter_joins_are_named() -> None:
    for student, teacher, inputs in (
        (nn.Sequential(nn.AdaptiveAvgPool2d(5)), nn.Sequential(nn.AdaptiveAvgPool2d(6)), torch.zeros(2, 3, 8, 8)),
        (nn.Sequential(nn.Flatten()), nn.Sequential(nn.Identity()), torch.zeros(2, 3, 8, 8)),
    ):
        with pytest.raises(ConfigError, match=r"no adapter brings features \[2, .*\] to \[2, 3, .*\]: pair other"):
            adapters(student, teacher, {"0": "0"}, inputs)


def test_the_dry_run_changes_no_statistics_and_the_student_is_exported_plain(images: Tensor) -> None:
    student, teacher = convolutions(3, 4, 5), convolutions(3, 8, 9, stride=2).eval()
    before = copy.deepcopy(student.state_dict())
    made = adapters(student, teacher, {"0": "0", "3": "3"}, images)
    after: dict[str, Any] = student.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], one) for name, one in before.items())
    assert student.training and not teacher.training
    assert isinstance(made[0][0], nn.Conv2d) and made[0][0].stride == (2, 2)


def test_a_hint_is_learned_by_student_and_adapter_together() -> None:
    torch.manual_seed(0)
    student, teacher = nn.Sequential(nn.Linear(6, 4)), nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    inputs = torch.randn(64, 6)
    pairs = {"0": "0"}
    made = adapters(student, teacher, pairs, inputs[:2])
    optimizer = torch.optim.Adam([*student.parameters(), *made.parameters()], lr=0.05)
    losses = []
    for _ in range(60):
        with captured(student, pairs) as ours, captured(teacher, pairs.values()) as theirs:
            student(inputs)
            teacher(inputs)
        loss = sum(
            (
                hint(adapter(ours[one]), theirs[other])
                for adapter, (one, other) in zip(made, pairs.items(), strict=True)
            ),
            torch.zeros(()),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert set(student.state_dict()) == {"0.weight", "0.bias"}
