"""A network's folder gives the same network back, to its own room alone."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.distill import load_folder, save_folder
from limbeck.distill.folders import room_of
from limbeck.errors import ConfigError


def linear(about: dict[str, int]) -> nn.Linear:
    return nn.Linear(2, about["width"])


@pytest.fixture
def written(tmp_path: Path) -> tuple[nn.Linear, Path]:
    network = nn.Linear(2, 3)
    return network, save_folder(network, {"room": "graphs", "width": 3}, tmp_path / "deep" / "folder")


def test_the_same_weights_come_back(written: tuple[nn.Linear, Path]) -> None:
    network, folder = written
    read, about = load_folder(folder, "graphs", linear)
    assert torch.equal(read.weight, network.weight) and not read.training
    assert about == {"room": "graphs", "width": 3} and room_of(folder) == "graphs"


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"room": "atoms", "width": 3}, "its room is atoms"),
        ({"width": 3}, "its room is None"),
        ({"room": "graphs"}, "KeyError"),
        ({"room": "graphs", "width": 4}, "size mismatch"),
        ([1], "AttributeError"),
    ],
)
def test_other_notes_are_refused(written: tuple[nn.Linear, Path], about: object, said: str) -> None:
    _, folder = written
    (folder / "network.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match=said):
        load_folder(folder, "graphs", linear)


def test_a_folder_without_a_note_has_no_room(tmp_path: Path) -> None:
    assert room_of(tmp_path) is None
