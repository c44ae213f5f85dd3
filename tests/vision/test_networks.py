from pathlib import Path

import pytest
import torch
from small_classes import network, pictures
from torch import nn

from limbeck.errors import ConfigError
from limbeck.vision import Histogram, Network, Normalised, load_network, save_network


def test_a_seed_decides_the_weights_and_leaves_the_generator_alone() -> None:
    state = torch.get_rng_state()
    same = [network(5, seed=seed).state_dict()["1.weight"] for seed in (0, 0, 1)]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_sizes_give_the_parameters_that_they_say() -> None:
    made = Network(hidden=(7,), channels=(4, 6), dropout=0.1).build([1, 8, 8], 3, 0)
    wanted = (9 + 1) * 4 + (9 * 4 + 1) * 6 + (6 * 2 * 2 + 1) * 7 + (7 + 1) * 3
    assert sum(one.numel() for one in made.parameters()) == wanted
    assert made(pictures(2).inputs).shape == (2, 3)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    sizes = Network(channels=(4,), dropout=0.5)
    made = sizes.build([1, 8, 8], 3, 5).eval()
    save_network(made, sizes, [1, 8, 8], "abc", tmp_path)
    saved = load_network(tmp_path)
    x = pictures(5).inputs
    assert torch.equal(saved.network(x), made(x)) and saved.made == sizes
    assert saved.shape == [1, 8, 8] and saved.classes == ("a", "b", "c")


@pytest.mark.parametrize("damage", ["network.json", "network.safetensors"])
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: str) -> None:
    sizes = Network(hidden=(2,))
    save_network(sizes.build([4], 3, 0), sizes, [4], "abc", tmp_path)
    (tmp_path / damage).write_text("{}")
    with pytest.raises(ConfigError, match="not a folder of a network of vision"):
        load_network(tmp_path)


def test_a_network_behind_its_own_normalisation() -> None:
    x = torch.rand(2, 3, 4, 4)
    seen = Normalised(nn.Identity(), [0.1, 0.2, 0.3], [1.0, 2.0, 4.0])(x)
    torch.testing.assert_close(seen[:, 2], (x[:, 2] - 0.3) / 4)
    with pytest.raises(ConfigError, match="positive"):
        Normalised(nn.Identity(), 0.0, 0.0)


def test_a_histogram_counts_symbols() -> None:
    symbols = torch.randint(0, 257, (3, 100))
    counts = torch.stack([torch.bincount(row, minlength=257) for row in symbols])
    torch.testing.assert_close(Histogram(257)(symbols.float()), (counts / 100).sqrt())


@pytest.mark.parametrize("sizes", [Network(hidden=(0,)), Network(channels=(1, 1, 1, 1)), Network(dropout=1.0)])
def test_sizes_that_cannot_be(sizes: Network) -> None:
    with pytest.raises(ConfigError):
        sizes.build([1, 8, 8], 3, 0)
