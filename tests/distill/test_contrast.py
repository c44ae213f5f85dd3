"""Contrast with memories: closed forms, what is kept and what is drawn, and a training that goes on exactly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.distill import Contrast, Player, Trainer, read_checkpoint
from limbeck.errors import ConfigError, TrainingError

SAMPLES, STEPS = 30, 12
CLASSES = torch.arange(SAMPLES) % 3
STUDENT, TEACHER = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), torch.randn(4, 5)
INDEX = torch.tensor([3, 7, 20, 11])


def contrast(**options: Any) -> Contrast:
    torch.manual_seed(1)
    return Contrast(6, 5, SAMPLES, **{"width": 8, **options})


def test_equal_scores_have_a_closed_form() -> None:
    """Every similarity is 0: x = 1, Z = N, so that h = (1 / N) / ((1 + K) / N) on both sides."""
    one = contrast(negatives=9)
    one.banks.zero_()
    expected = -2 * (math.log(1 / 10) + 9 * math.log(9 / 10))
    assert one(STUDENT, TEACHER, INDEX, 0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
def test_the_loss_is_that_of_the_definition(rows: int) -> None:
    one = contrast(temperature=0.5, negatives=6)
    before = one.banks.clone()
    found = one(STUDENT[:rows], TEACHER[:rows], INDEX[:rows], 4)
    total = torch.zeros(())
    chosen = torch.cat([INDEX[:rows, None], one.others(INDEX[:rows], 4)], 1)
    for side, features in enumerate((STUDENT[:rows], TEACHER[:rows])):
        z = nn.functional.normalize(one.projections[side](features))
        x = ((z[:, None] * before[1 - side][chosen]).sum(-1) / 0.5).exp()
        x = x / (x.mean() * SAMPLES)
        noise = 6 / SAMPLES
        h = x / (x + noise)
        total = total - (h[:, 0].log() + (1 - h[:, 1:]).log().sum(1)).mean()
    torch.testing.assert_close(found, total, rtol=1e-4, atol=0)


def test_the_first_batch_fixes_the_constants_and_each_batch_its_rows() -> None:
    one = contrast(momentum=0.3)
    banks = one.banks.clone()
    one(STUDENT, TEACHER, INDEX, 0)
    constants = one.constants.clone()
    assert (constants > 0).all() and constants[0] != constants[1]
    z = nn.functional.normalize(one.projections[1](TEACHER))
    rows = nn.functional.normalize(0.3 * banks[1, INDEX] + 0.7 * z)
    torch.testing.assert_close(one.banks[1, INDEX], rows.detach())
    rest = torch.ones(SAMPLES, dtype=torch.bool).index_fill(0, INDEX, False)
    assert torch.equal(one.banks[:, rest], banks[:, rest])
    one(3 * STUDENT.flip(0), TEACHER, INDEX + 1, 1)
    assert torch.equal(one.constants, constants)


def test_evaluation_keeps_nothing() -> None:
    one = contrast().eval()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    assert one(STUDENT, TEACHER, INDEX, 0) == one(STUDENT, TEACHER, INDEX, 0)
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())


def test_others_are_other_samples_or_other_classes_all_alike_and_known_by_the_step() -> None:
    index = torch.arange(SAMPLES)
    relaxed, exact = contrast(negatives=29), contrast(negatives=29, classes=CLASSES)
    counts = torch.zeros(2, SAMPLES)
    for step in range(200):
        any_other, other_class = relaxed.others(index, step), exact.others(index, step)
        assert (any_other != index[:, None]).all()
        assert (CLASSES[other_class] != CLASSES[:, None]).all()
        for row, drawn in enumerate((any_other, other_class)):
            counts[row] += drawn.flatten().bincount(minlength=SAMPLES)
    expected = 200 * 29  # each of 30, s.e. 76
    assert (counts - expected).abs().max() < 5 * 76
    assert torch.equal(relaxed.others(index, 3), contrast(negatives=29).others(index, 3))
    assert not torch.equal(relaxed.others(index, 3), relaxed.others(index, 4))
    assert not torch.equal(relaxed.others(index, 3), contrast(negatives=29, seed=1).others(index, 3))


def test_defaults_and_classes_of_different_sizes() -> None:
    assert contrast().negatives == 15
    assert Contrast(2, 2, 40_000, width=2).negatives == 16_384
    uneven = torch.tensor([5, 5, 5, 5, 2, 5, 9, 5])
    drawn = Contrast(2, 2, 8, classes=uneven, negatives=7, width=2).others(torch.arange(8), 0)
    assert (uneven[drawn] != uneven[:, None]).all() and set(drawn[0].tolist()) == {4, 6}


def test_gradients_reach_student_and_both_projections_alone() -> None:
    one = contrast()
    student, teacher = STUDENT.bfloat16().requires_grad_(), TEACHER.clone().requires_grad_()
    loss = one(student, teacher, INDEX, 0)
    loss.backward()
    assert loss.dtype == torch.float32 and teacher.grad is None
    assert student.grad is not None and student.grad.abs().max() > 0
    assert all(parameter.grad.abs().max() > 0 for parameter in one.parameters())
    exact = contrast().double()
    exact(STUDENT.double(), TEACHER.double(), INDEX, 0)  # from here on Z is a constant
    exact.eval()
    assert torch.autograd.gradcheck(
        lambda s: exact(s, TEACHER.double(), INDEX, 0), (STUDENT.double().requires_grad_(),)
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"negatives": SAMPLES}, "between 1 and 29, one less than samples: 30"),
        ({"negatives": 0}, "between 1 and 29"),
        ({"classes": CLASSES[:5]}, r"classes \[5\] must be those of the 30 samples"),
        ({"classes": CLASSES * 0}, "two at least"),
    ],
)
def test_what_leaves_no_others_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        contrast(**options)


def test_batches_that_do_not_fit_are_named() -> None:
    for index in (INDEX[:3], torch.tensor([3, 3, 4, 5])):
        with pytest.raises(TrainingError, match="different samples, got 4, 4"):
            contrast()(STUDENT, TEACHER, index, 0)
    with pytest.raises(TrainingError, match="between 0 and 29: count them over the whole data set"):
        contrast()(STUDENT, TEACHER, INDEX + 10, 0)


def training(out: Path, *, stop: int | None = None) -> Trainer:
    """A student of one layer beside its contrast; `stop` interrupts it as Ctrl-C would, but without saving."""
    torch.manual_seed(2)
    inputs = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(7))
    teacher = nn.Linear(4, 5)
    student = nn.Linear(4, 6)
    pair = nn.ModuleDict({"student": student, "contrast": Contrast(6, 5, SAMPLES, classes=CLASSES, width=8)})

    def batch(step: int) -> Tensor:
        if step == stop:
            raise KeyboardInterrupt
        return torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(step))[:6]

    def loss(player: str, index: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": pair["contrast"](student(inputs[index]), teacher(inputs[index]), index, step)}

    player = Player("student", pair, torch.optim.AdamW(pair.parameters(), lr=0.05))
    return Trainer([player], loss, batch, steps=STEPS, out=out, frozen=[teacher], checkpoint_every=4, progress=False)


def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "parts", stop=7).run()
    resumed = training(tmp_path / "parts").run()
    assert resumed.resumed_from == 4 and resumed.values == whole.values
    ours, theirs = (read_checkpoint(tmp_path / name / f"step-{STEPS:08d}").tensors for name in ("parts", "whole"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    kept = ours["players"]["student"]["module"]
    assert {"contrast.banks", "contrast.constants", "student.weight"} <= set(kept)
    fresh = training(tmp_path / "fresh").players[0].module.state_dict()
    assert (kept["contrast.banks"] - fresh["contrast.banks"]).abs().amax((0, 2)).gt(0).sum() > 20
