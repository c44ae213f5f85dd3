"""Review of a student's stages: the fusion written out, shapes, and a student that stays plain."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import Review, captured, constant, pyramid
from limbeck.errors import ConfigError, TrainingError

DRAW = torch.Generator().manual_seed(0)
SIZES, OURS, THEIRS = (8, 4, 2), (4, 6, 7), (5, 8, 9)


def maps(channels: tuple[int, ...], sizes: tuple[int, ...] = SIZES) -> list[Tensor]:
    return [torch.randn(3, c, n, n, generator=DRAW) for c, n in zip(channels, sizes, strict=True)]


def stages(*channels: int) -> nn.Sequential:
    """One convolution with stride 2 a stage."""
    pairs = zip((3, *channels), channels, strict=False)
    return nn.Sequential(*(nn.Conv2d(one, other, 3, stride=2, padding=1) for one, other in pairs))


@pytest.mark.parametrize("sizes", [SIZES, (7, 4, 3)])
def test_the_loss_is_that_of_the_stages_written_out(sizes: tuple[int, ...]) -> None:
    """From the last stage to the first, in evaluation mode where batch normalisation is a constant."""
    review = Review(OURS, THEIRS).eval()
    ours, theirs = maps(OURS), maps(THEIRS, sizes)
    total, behind = torch.zeros(()), None
    for i in (2, 1, 0):
        block = review.blocks[i]
        x = F.conv2d(ours[i], block.enter[0].weight) / math.sqrt(1 + 1e-5)
        if behind is not None:
            y = F.interpolate(behind, (SIZES[i], SIZES[i]), mode="nearest")
            a = F.conv2d(torch.cat([x, y], 1), block.attention[0].weight, block.attention[0].bias).sigmoid()
            x = a[:, :1] * x + a[:, 1:] * y
        behind = F.interpolate(x, (sizes[i], sizes[i]), mode="nearest")
        seen = F.conv2d(behind, block.leave[0].weight, padding=1) / math.sqrt(1 + 1e-5)
        total = total + pyramid(seen, theirs[i])
    torch.testing.assert_close(review(ours, theirs), total, rtol=1e-5, atol=1e-6)
    assert review.blocks[2].attention is None and review.blocks[0].enter[0].weight.shape[0] == OURS[-1]


def test_later_stages_help_earlier_ones_and_not_the_other_way_round() -> None:
    review, ours = Review(OURS, THEIRS).eval(), [one.requires_grad_() for one in maps(OURS)]
    fused = review.fused(ours, [one.shape[-2:] for one in maps(THEIRS)])
    assert [one.shape[1] for one in fused] == list(THEIRS)
    first = torch.autograd.grad(fused[0].sum(), ours, retain_graph=True)
    assert min(one.abs().max().item() for one in first) > 0
    last = torch.autograd.grad(fused[2].sum(), ours, allow_unused=True)
    assert last[0] is None and last[1] is None and last[2] is not None


def test_blocks_between_models_stand_beside_them_and_are_learned() -> None:
    torch.manual_seed(0)
    student, teacher, images = stages(4, 6), stages(5, 8).eval(), torch.randn(8, 3, 16, 16)
    pairs = {"0": "0", "1": "1"}
    before = copy.deepcopy(student.state_dict())
    review = Review.between(student, teacher, pairs, images[:2])
    after = student.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], one) for name, one in before.items())
    optimizer = torch.optim.Adam([*student.parameters(), *review.parameters()], lr=0.01)
    losses = []
    for _ in range(40):
        with captured(student, pairs) as ours, captured(teacher, pairs.values()) as theirs:
            student(images)
            teacher(images)
        loss = review(list(ours.values()), list(theirs.values()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert set(student.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_the_published_warm_up_is_a_schedule() -> None:
    assert [constant(epoch - 1, warmup=20) for epoch in (1, 10, 20, 240)] == [min(e / 20, 1) for e in (1, 10, 20, 240)]


def test_stages_that_do_not_pair_are_named() -> None:
    with pytest.raises(ConfigError, match="2 stages of the student and 3 of the teacher"):
        Review([1, 2], [1, 2, 3])
    with pytest.raises(TrainingError, match="3 stages are reviewed, got 2 and 3"):
        Review(OURS, THEIRS)(maps(OURS)[:2], maps(THEIRS))
    flat = nn.Sequential(nn.Flatten())
    with pytest.raises(ConfigError, match=r"features \[\[2, 768\]\] are no maps"):
        Review.between(stages(4), flat, {"0": "0"}, torch.zeros(2, 3, 16, 16))
