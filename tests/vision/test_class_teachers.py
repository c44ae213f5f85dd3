from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_classes import network, pictures, points, sure
from torch import nn

from limbeck.errors import ConfigError, TrainingError
from limbeck.vision import (
    Answers,
    Augmentation,
    Batch,
    Chosen,
    Kept,
    Labelled,
    Module,
    Several,
    answers,
    log_probabilities,
    teacher_of,
)


def batch(data: Labelled, rows: list[int], view: int = 0) -> Batch:
    return Batch(data.inputs[rows], data.labels[rows], data.places[rows], view)


def test_a_network_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    data, part = points(), nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.9), nn.Linear(50, 3))
    part[1].eval()
    part.train()
    part[1].eval()
    modes = [one.training for one in part.modules()]
    teacher = Module(nn.Sequential(nn.Dropout(0.5), part))
    said = [teacher(batch(data, [0, 1])) for _ in range(2)]
    assert torch.equal(*said) and not said[0].requires_grad
    assert [one.training for one in part.modules()] == modes and next(part.parameters()).requires_grad


def test_descriptions_tell_weights_apart() -> None:
    first, same, other = (Module(network(3, seed=seed)).describe() for seed in (0, 0, 1))
    assert first == same != other


def test_means_of_several() -> None:
    data = points(6)
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]).repeat(3, 1)
    q = torch.tensor([[0.2, 0.2, 0.6], [0.5, 0.25, 0.25]]).repeat(3, 1)
    both = [Answers(p.log()), Answers(q.log())]
    seen = batch(data, [0, 3])
    torch.testing.assert_close(Several(both, [3, 1])(seen).exp(), (0.75 * p + 0.25 * q)[[0, 3]])
    geometric = p**0.75 * q**0.25
    wanted = (geometric / geometric.sum(-1, keepdim=True))[[0, 3]]
    torch.testing.assert_close(Several(both, [3, 1], geometric=True)(seen).softmax(-1), wanted)
    torch.testing.assert_close(Several(both, [0, 1])(seen).exp(), q[[0, 3]])


def test_classes_are_matched_by_name() -> None:
    data = points(4)
    teacher = Answers(torch.arange(20.0).reshape(4, 5))
    chosen = Chosen(teacher, ["x", "c", "y", "a", "b"], ["a", "b", "c"])
    assert chosen(batch(data, [1])).tolist() == [[8.0, 9.0, 6.0]]
    with pytest.raises(ConfigError, match="does not know 1 classes"):
        Chosen(teacher, ["x", "c", "y", "a", "b"], ["a", "d"])


class Counting:
    """A teacher that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.asked += len(batch.rows)
        return batch.inputs.flatten(1)[:, :3]

    def describe(self) -> str:
        return "counting"


def test_kept_answers_are_those_of_every_view_and_asked_once(tmp_path: Path) -> None:
    data, test = pictures(30).split(0, test=0.5)
    change, teacher = Augmentation(shift=0.3, views=2), Counting()
    kept = Kept(teacher, data, change, 7, tmp_path)
    assert teacher.asked == 2 * len(data)
    for view, rows in ((0, [3, 1]), (1, [0, 2]), (2, [5])):
        seen = batch(data, rows, view)
        wanted = change(seen.inputs, seen.rows, change.view(view), 7).flatten(1)[:, :3]
        torch.testing.assert_close(kept(seen), wanted, rtol=0, atol=0)
    assert torch.equal(Kept(teacher, data, change, 7, tmp_path).logits, kept.logits) and teacher.asked == 2 * len(data)
    Kept(teacher, test, change, 7, tmp_path)
    Kept(teacher, data, change, 8, tmp_path)
    assert teacher.asked == 4 * len(data) + 2 * len(test)
    file = next(tmp_path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="is not what was written"):
        for seed in (7, 8):
            for part in (data, test):
                Kept(teacher, part, change, seed, tmp_path)


def test_kept_views_of_data_without_changes(tmp_path: Path) -> None:
    data = points(10)
    kept = Kept(Answers(torch.eye(3).repeat(4, 1)), data, Augmentation(), 0, tmp_path)
    assert torch.equal(kept(batch(data, [4], view=9)), torch.eye(3)[[1]])
    with pytest.raises(ConfigError, match=r"augmentation.views"):
        Kept(Counting(), pictures(), Augmentation(flip=True), 0, tmp_path)


def test_probabilities_become_logarithms() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0]])
    assert log_probabilities(p).exp().tolist()[0] == pytest.approx([1, 1e-8, 1e-8])
    for wrong in ([[0.5, 0.6]], [[1.5, -0.5]]):
        with pytest.raises(TrainingError, match="not probabilities"):
            log_probabilities(torch.tensor(wrong))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (network(2, shape=(4,))[:2], "answers"),
        (lambda x: x[:, :3] * float("nan"), "NaN"),
        (np.zeros((3, 3)), "answers for 3 examples"),
        (3, "a teacher is"),
        ("none.onnx", "does not exist"),
    ],
)
def test_teachers_that_cannot_be(given: Any, words: str) -> None:
    data = points()
    with pytest.raises(ConfigError, match=words):
        answers(teacher_of(given, data), data)


def test_teachers_of_all_kinds() -> None:
    data = points(8)
    logits = sure(data.inputs)
    for given in (sure, logits, logits.numpy(), [sure, logits]):
        said = answers(teacher_of(given, data), data)
        torch.testing.assert_close(said.softmax(-1), logits.softmax(-1))
    test = data.at([6, 2])
    torch.testing.assert_close(answers(teacher_of(logits, test), test), logits[[6, 2]])
