"""Sets of classes as prompts: what is told, how a network reads it, and a negative prompt beside it."""

from itertools import permutations

import pytest
import torch
from small_distillation import CLASSES
from torch.utils.flop_counter import FlopCounterMode

from limbeck.diffusion import (
    Draws,
    Preconditioned,
    Pretraining,
    Prompts,
    Sizes,
    guided,
    load_model,
    negative,
    save_model,
    train_teacher,
)
from limbeck.diffusion.mixtures import mixture
from limbeck.diffusion.sources import Exact
from limbeck.errors import ConfigError

RING = Exact(mixture("class_ring"), True)
X, SIGMA = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 1.0, 10.0])


@pytest.fixture
def network() -> Preconditioned:
    """A network of two blocks that reads four classes, with weights that answer something."""
    made = Sizes(32, 2, heads=4).build([2], 4, seed=0)
    torch.nn.init.normal_(made.network.out.weight, generator=torch.Generator().manual_seed(0))
    return made.requires_grad_(False)


def test_a_set_holds_the_class_and_perhaps_another_in_any_order() -> None:
    x, told = Prompts(RING, alone=0.25).draw(Draws(0, 0), 4000)
    own, (plain, classes) = told.clone(), RING.draw(Draws(0, 0), 4000)
    assert torch.equal(x, plain)
    assert (told == classes[:, None]).sum(1).eq(1).all()  # once
    assert (told == -1).any(1).double().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)
    both = own[(own >= 0).all(1)]
    share = torch.bincount(4 * both[:, 0] + both[:, 1], minlength=16).double().reshape(4, 4) / len(both)
    assert share.diagonal().tolist() == [0.0] * 4
    off = share[~torch.eye(4, dtype=torch.bool)]
    assert (off - 1 / 12).abs().max() < 4 * (1 / 12 * 11 / 12 / len(both)) ** 0.5
    assert (told[:, 1] == -1).double().mean() == pytest.approx(0.125, abs=4 * (0.125 * 0.875 / 4000) ** 0.5)


def test_a_source_is_passed_on() -> None:
    source = Prompts(RING)
    assert (source.shape, source.classes, source.data_std) == (RING.shape, 4, RING.data_std)
    assert source.describe() != RING.describe()
    assert source.describe() != Prompts(RING, 0.1).describe()
    assert (source.of_classes([2]).draw(Draws(0, 0), 50)[1] == 2).any(1).all()


def test_order_padding_and_repetition_of_a_prompt_change_nothing(network: Preconditioned) -> None:
    def said(*classes: int) -> torch.Tensor:
        return network(X, SIGMA, torch.tensor([classes] * 3))

    expected = said(0, 2, 3)
    for order in permutations([0, 2, 3, -1]):
        torch.testing.assert_close(said(*order), expected)
    torch.testing.assert_close(said(1, 1), said(1))
    assert (said(0, 2) - expected).abs().max() > 0.01
    assert torch.equal(network(X, SIGMA, torch.tensor([1, 1, 1])), said(1))
    torch.testing.assert_close(network(X, SIGMA), said(4))  # no class


def test_guidance_reads_no_class_in_the_place_of_the_set(network: Preconditioned) -> None:
    cond = torch.tensor([[0, 1], [2, -1], [-1, 3]])
    expected = -0.5 * network(X, SIGMA) + 1.5 * network(X, SIGMA, cond)
    torch.testing.assert_close(guided(network, 1.5, 4)(X, SIGMA, cond), expected)


def test_a_negative_prompt_acts_in_every_block(network: Preconditioned) -> None:
    cond, (tokens, mask) = torch.tensor([[0, 1]] * 3), network.network.read(torch.tensor([[1, -1]] * 3))
    plain = network(X, SIGMA, cond)
    with negative(network, tokens, 0.0, mask):
        assert torch.equal(network(X, SIGMA, cond), plain)
    with negative(network, tokens, 1.0, mask):
        both = network(X, SIGMA, cond)
    with negative(network, tokens[:, :1], 1.0):
        torch.testing.assert_close(network(X, SIGMA, cond), both)  # padding is masked
    with negative(network.network.readers[0], tokens, 1.0, mask):
        first = network(X, SIGMA, cond)
    assert (first - plain).abs().max() > 0.01 and (both - first).abs().max() > 0.01


def test_cost_of_a_negative_prompt_is_its_keys_and_values(network: Preconditioned) -> None:
    cond = torch.tensor([[0, 1]] * 3)

    def flops(alpha: float) -> int:
        with FlopCounterMode(display=False) as counter, negative(network, network.network.read(cond[:, 1:])[0], alpha):
            network(X, SIGMA, cond)
        return int(counter.get_total_flops())

    units = 2 * 3 * 32 * 32  # of a map of 32 to 32 for three pictures
    assert flops(1.0) - flops(0.0) == 2 * 2 * units  # keys and values, two blocks; scores are not counted on a CPU
    assert flops(1.0) / flops(0.0) - 1 == pytest.approx(0.209, abs=0.001)  # one image token: a fifth, not 2 %


def test_a_short_training_tells_sets_apart(tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = Prompts(CLASSES)
    begin = Sizes(32, 1, heads=2).build(source.shape, 2, source.data_std, seed=0)
    how = Pretraining(150, 128, 4e-3, average=0.9)
    done = train_teacher(begin, source, how, progress=False).denoiser
    x, sigma = torch.zeros(4, 2), torch.full((4,), 5.0)
    a, b, both, turned = done(x, sigma, torch.tensor([[0, -1], [1, -1], [0, 1], [1, 0]]))
    means = [CLASSES.of_classes([k]).draw(Draws(0, 0), 2000)[0].mean(0) for k in (0, 1)]
    assert (a - means[0]).norm() < 0.3 * (means[0] - means[1]).norm() > (b - means[1]).norm()
    assert (both - (a + b) / 2).norm() < 0.25 * (a - b).norm()
    torch.testing.assert_close(both, turned)
    folder = save_model(done, tmp_path, shape=source.shape, classes=["a", "b"])
    cond = torch.tensor([[0, 1]] * 4)
    assert torch.equal(load_model(folder).model(x, sigma, cond), done(x, sigma, cond))


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="needs two of them"):
        Prompts(Exact(mixture("ring8")))
    for sizes, classes in (
        (Sizes(30, 1, heads=4), 2),
        (Sizes(32, 1, heads=4), 0),
        (Sizes(32, 1, levels=1, heads=4), 2),
    ):
        with pytest.raises(ConfigError, match="heads"):
            sizes.build([1, 8, 8], classes)
