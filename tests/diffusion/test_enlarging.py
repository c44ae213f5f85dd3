"""Saved models of super-resolution: compared with one another, and asked for pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from limbeck.diffusion.folders import load_model, save_model
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.recipe import evaluate_folder, run_recipe
from limbeck.diffusion.sampling import sample_folder
from limbeck.diffusion.super_resolution import Conditioning, psnr
from limbeck.distill import labelled, read_data, save_data
from limbeck.errors import ConfigError


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ladder of two short rungs on 300 digits, whose data are beside it."""
    folder = tmp_path_factory.mktemp("ladder")
    data = labelled(read_data("digits").inputs[:300].numpy(), [0] * 300)
    recipe: dict[str, Any] = {"data": str(save_data(data, folder / "one.npz")), "out": str(folder), "updates": 20}
    recipe |= {"method": "scale-distillation", "teacher": {"width": 32, "blocks": 1}, "batch": 32, "seed": 3}
    run_recipe(recipe, progress=False)
    return folder


def test_saved_models_are_compared_on_pictures_that_the_student_did_not_learn(ladder: Path) -> None:
    judged = evaluate_folder(ladder / "student", ladder / "teacher", ladder / "one.npz")
    known = json.loads((ladder / "result.json").read_text())["judged"]
    assert [row.values for row in judged.rows] == [row["values"] for row in known["rows"]]
    assert [row.name for row in judged.rows][::4] == ["teacher x2, 1 step", "student x4, 16 steps"]
    assert judged.count == 60 and judged.floor == known["floor"]


def test_samples_are_pictures_made_small_and_large_again(ladder: Path, tmp_path: Path) -> None:
    made = sample_folder(ladder / "student", 500)
    assert made.rows is not None and made.made.x.shape == (60, 1, 8, 8) and made.made.calls == 1
    assert torch.equal(made.rows["small"], Conditioning().told(made.rows["truth"], 4))
    known = json.loads((ladder / "result.json").read_text())["judged"]["rows"][-1]
    assert psnr(made.made.x, made.rows["truth"]) == known["values"]["psnr"]
    assert "4 times larger than they were (of one" in made.summary()
    more = sample_folder(ladder / "student", 7, steps=4, seed=5)
    assert more.made.calls == 4 and torch.equal(more.rows["truth"], made.rows["truth"][:7])  # type: ignore[index]
    assert not torch.equal(more.made.x, made.made.x[:7])
    assert torch.equal(
        sample_folder(ladder / "teacher", 7).rows["small"], Conditioning().told(made.rows["truth"][:7], 2)
    )  # type: ignore[index]
    more.save(tmp_path / "large.npz", tmp_path / "rows.png")
    assert read_data(tmp_path / "large.npz").inputs.shape == (7, 1, 8, 8)
    picture = Image.open(tmp_path / "rows.png")
    assert picture.height > 3 * 8 and picture.width > 7 * 8
    assert sample_folder(ladder / "student", 5, data=Path("digits")).who.endswith("(of digits)")


def test_what_super_resolution_refuses(ladder: Path, tmp_path: Path) -> None:
    student, data = ladder / "student", ladder / "one.npz"
    wrong: list[dict[str, Any]] = [{"guidance": 2.0}, {"chosen": "0"}, {"base": (student, 1)}, {"sampler": "heun"}]
    for how in wrong:
        with pytest.raises(ConfigError, match="makes pictures 4 times larger: leave out"):
            sample_folder(student, 3, **how)
    plain = save_model(Sizes(8, 1).build([1, 8, 8]), tmp_path / "plain", shape=[1, 8, 8], classes=())
    with pytest.raises(ConfigError, match="is compared with another one"):
        evaluate_folder(student, plain, data)
    silent = save_model(load_model(student).model, tmp_path / "silent", shape=[1, 8, 8], classes=())
    with pytest.raises(ConfigError, match="does not say by which factor"):
        sample_folder(silent, 3)
    large = save_data(labelled(torch.rand(20, 1, 16, 16).numpy(), [0] * 20), tmp_path / "large.npz")
    with pytest.raises(ConfigError, match=r"makes pictures of \[1, 8, 8\], large has \[1, 16, 16\]"):
        sample_folder(student, 3, data=large)
