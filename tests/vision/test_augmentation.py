import pytest
import torch
from small_classes import pictures, points

from limbeck.errors import ConfigError
from limbeck.vision import Augmentation

ALL = Augmentation(shift=0.2, rotate=20, scale=0.1, flip=True, erase=0.2)


def test_a_view_depends_on_the_example_and_not_on_its_batch() -> None:
    x = pictures(12).inputs
    whole = ALL(x, torch.arange(12), view=5, seed=1)
    some = torch.tensor([7, 2])
    torch.testing.assert_close(ALL(x[some], some, view=5, seed=1), whole[some], rtol=0, atol=0)
    for other in (ALL(x, torch.arange(12), view=6, seed=1), ALL(x, torch.arange(12), view=5, seed=2)):
        assert (other - whole).abs().max() > 0.1


def test_nothing_to_change_changes_nothing() -> None:
    x = points().inputs
    assert Augmentation(views=3)(x, torch.arange(len(x)), 0, 0) is x


def test_a_mirror_is_exact_and_hits_half() -> None:
    x = pictures(60).inputs
    seen = Augmentation(flip=True)(x, torch.arange(60), 0, 0)
    mirrored = (seen - x.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    same = (seen - x).abs().amax((1, 2, 3)) < 1e-5
    assert bool((mirrored ^ same).all()) and 15 < int(mirrored.sum()) < 45  # 30, sd 3.9


def test_a_shift_moves_at_most_its_share() -> None:
    x = torch.zeros(50, 1, 20, 20)
    x[:, :, 10, 10] = 1
    seen = Augmentation(shift=0.2)(x, torch.arange(50), 0, 0)
    place = seen.flatten(1).argmax(1)
    moved = torch.stack([place // 20 - 10, place % 20 - 10]).abs()
    assert moved.max() <= 4 and moved.amax(1).min() >= 3 and moved.min() < 2


def test_an_erased_square_has_its_size() -> None:
    seen = Augmentation(erase=0.25)(torch.ones(30, 1, 16, 16), torch.arange(30), 0, 0)
    gone = (seen == 0).flatten(1).sum(1)
    assert 12 <= int(gone.max()) <= 25 and bool((gone > 0).any())


def test_views_are_taken_in_turn() -> None:
    assert [Augmentation(views=3).view(epoch) for epoch in range(5)] == [0, 1, 2, 0, 1]
    assert [Augmentation().view(epoch) for epoch in range(3)] == [0, 1, 2]


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="shares"):
        Augmentation(shift=1.5)
    with pytest.raises(ConfigError, match="only pictures"):
        ALL(points().inputs, torch.arange(60), 0, 0)
