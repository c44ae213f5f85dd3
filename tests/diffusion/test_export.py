"""Students without limbeck: the same pictures from the same noise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limbeck.diffusion.denoisers import Translated
from limbeck.diffusion.export import export_diffusers, export_onnx
from limbeck.diffusion.multi_student import Bundle
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.pretrained import from_diffusers
from limbeck.diffusion.schedules import DDPM, RectifiedFlow
from limbeck.diffusion.students import Student, noise_for, one_network
from limbeck.errors import ConfigError

POINTS, UNET = Sizes(8, 1), Sizes(8, 1, levels=1)


def lively(sizes: Sizes, shape: list[int], classes: int = 3, boundary: float = 0.0, seed: int = 0) -> Any:
    denoiser = sizes.build(shape, classes, 0.7, boundary=boundary)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in denoiser.parameters():
            one.copy_(0.15 * torch.randn(one.shape, generator=generator))
    return denoiser


@pytest.mark.parametrize(
    ("levels", "boundary", "timesteps"),
    [([2.5], 0.002, [0]), ([80.0, 24.4, 5.8], 0.0, [927500, 695000, 0])],
)
def test_a_pipeline_makes_the_same_pictures(
    levels: list[float], boundary: float, timesteps: list[int], tmp_path: Path
) -> None:
    diffusers = pytest.importorskip("diffusers")
    student = one_network(lively(UNET, [1, 4, 4], boundary=boundary), levels)
    assert export_diffusers(student, tmp_path) == timesteps
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    cond, how = torch.tensor([0, 3, 2]), {"batch_size": 3, "output_type": "pt", "num_inference_steps": None}
    random = torch.Generator().manual_seed(5)
    made = pipeline(class_labels=cond, timesteps=timesteps, generator=random, **how).images
    random = torch.Generator().manual_seed(5)
    noise = torch.stack([torch.randn(3, 1, 4, 4, generator=random) for _ in levels], 1)
    with torch.no_grad():
        own = (student(noise, cond) / 2 + 0.5).clamp(0, 1)
    assert own.std() > 0.02 and ((own > 0) & (own < 1)).float().mean() > 0.5
    torch.testing.assert_close(made, own, atol=1e-5, rtol=0)
    assert f"timesteps={timesteps}" in (tmp_path / "README.md").read_text()
    back, x = from_diffusers(tmp_path, classes=3), torch.ones(3, 1, 4, 4)
    torch.testing.assert_close(back.model(x, torch.ones(3), cond), student.experts[0](x, torch.ones(3), cond))


@pytest.mark.parametrize(
    "student",
    [
        lambda: one_network(lively(POINTS, [2]), [2.5]),
        lambda: one_network(lively(Sizes(8, 1, levels=1, clock="angle"), [1, 4, 4]), [2.5]),
        lambda: one_network(lively(UNET, [1, 4, 8]), [2.5]),
        lambda: one_network(lively(UNET, [1, 4, 4]), [2.5, 0.6], renoise=False),
        lambda: one_network(Translated(lively(UNET, [1, 4, 4]).network, RectifiedFlow(), "u"), [2.5]),
        lambda: Student([lively(UNET, [1, 4, 4]), lively(UNET, [1, 4, 4])], [[2.5], [0.6]]),
        lambda: nn.Identity(),
    ],
    ids=["perceptron", "angle", "not square", "ode", "flow", "phases", "no student"],
)
def test_what_a_pipeline_cannot_hold_is_refused(student: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one U-Net with the clock log .*: use export_onnx"):
        export_diffusers(student(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("student", "shape"),
    [
        (lambda: one_network(lively(POINTS, [1, 4, 4], classes=0), [2.5, 0.6]), [1, 4, 4]),
        (lambda: one_network(lively(UNET, [1, 4, 4]), [2.5]), [1, 4, 4]),
        (lambda: Student([lively(POINTS, [2]), lively(POINTS, [2], seed=1)], [[2.5], [0.6]], renoise=False), [2]),
        (lambda: one_network(Translated(lively(POINTS, [2], 0).network, DDPM((0.9, 0.5, 0.01)), "v"), [2.5]), [2]),
    ],
    ids=["two steps", "unet", "phases", "ddpm"],
)
def test_an_onnx_graph_makes_the_same_pictures(student: Any, shape: list[int], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, file = student(), tmp_path / "new" / "student.onnx"
    conditional = "labels" in str(dict(model.named_parameters()).keys()) or "class_embedding" in str(model)
    assert export_onnx(model, file, shape) == file
    assert [one.name for one in file.parent.iterdir()] == ["student.onnx"]
    graph = onnxruntime.InferenceSession(file)
    for count in (1, 5):
        noise, cond = noise_for(model, shape, count, seed=count), torch.arange(count) % 4
        told = {"noise": noise.numpy()} | ({"cond": cond.numpy()} if conditional else {})
        assert [one.name for one in graph.get_inputs()] == list(told)
        with torch.no_grad():
            own = model(noise, cond if conditional else None)
        assert own.std() > 0.01
        torch.testing.assert_close(torch.from_numpy(graph.run(None, told)[0]), own, atol=1e-5, rtol=1e-5)


def test_a_bundle_is_exported_student_by_student(tmp_path: Path) -> None:
    bundle = Bundle([one_network(lively(POINTS, [2]), [2.5])], [0, 0, 0])
    with pytest.raises(ConfigError, match="got Bundle: export its students"):
        export_onnx(bundle, tmp_path / "bundle.onnx", [2])
    assert not list(tmp_path.iterdir())
