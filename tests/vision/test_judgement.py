import pytest
import torch
from small_classes import network, points, sure
from torch.nn import functional as F  # noqa: N812

from limbeck.errors import ConfigError
from limbeck.vision import best_temperature, evaluate, judge, labelled

GENERATOR = torch.Generator().manual_seed(0)


def test_the_temperature_that_was_put_in_is_found() -> None:
    logits = 3 * torch.randn(20_000, 5, generator=GENERATOR)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=GENERATOR)[:, 0]
    assert best_temperature(4 * logits, labels) == pytest.approx(4, rel=0.05)  # s.e. about 0.9 %
    found = judge(4 * logits, labels)
    assert found.temperature == pytest.approx(4, rel=0.05)
    assert found.loss_at_temperature == pytest.approx(float(F.cross_entropy(logits, labels)), abs=2e-3)
    assert found.calibration_error_at_temperature < 0.02 < found.calibration_error
    assert found.logit_std == pytest.approx(4 * float(logits.std(-1, correction=0).mean()), rel=1e-6)


def test_a_temperature_is_fitted_to_the_other_half() -> None:
    logits = torch.tensor([[2.0, 0.0]]).double().repeat(40, 1)
    labels = torch.zeros(40).long()
    labels[0::4] = 1  # half of the even ones are wrong, none of the odd
    found = judge(logits, labels)
    even, odd = (best_temperature(logits[k::2], labels[k::2]) for k in (0, 1))
    wanted = torch.stack([F.cross_entropy(logits[0::2] / odd, labels[0::2]),
                          F.cross_entropy(logits[1::2] / even, labels[1::2])]).mean()  # fmt: skip
    assert found.loss_at_temperature == pytest.approx(float(wanted), rel=1e-4)
    assert found.accuracy == 0.75 and found.confidence == pytest.approx(float(logits[0].softmax(-1)[0]))


def test_student_beside_teacher() -> None:
    data = points(200)
    wrong = data.labels.clone()
    wrong[:20] = (wrong[:20] + 1) % 3  # the teacher is right on 180
    judged_by = labelled(data.inputs, wrong)
    student = 3 * data.inputs[:, :3]
    student[:10] = 0
    student[range(10), wrong[:10]] = 5.0  # and the student does not follow it in ten of its errors
    found = evaluate(student, sure(data.inputs), judged_by)
    assert found.teacher.accuracy == 0.9 and found.student.accuracy == 0.95
    assert found.agreement == 0.95 and found.copied == 0.5 and found.examples == 200
    p, q = sure(data.inputs).log_softmax(-1), student.log_softmax(-1)
    assert found.divergence == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-5)
    assert "95.0 % answered alike, 50.0 % of the teacher's errors copied" in found.summary()


def test_examples_without_a_label_are_left_out() -> None:
    data = points(10)
    labels = data.labels.clone()
    labels[3:] = -1
    assert evaluate(network(2), sure, labelled(data.inputs, labels, data.classes)).examples == 3
    labels[1:] = -1
    with pytest.raises(ConfigError, match="at least two"):
        evaluate(network(2), sure, labelled(data.inputs, labels, data.classes))


def test_bins_are_those_of_the_calibration_error() -> None:
    data = points(300)
    found = judge(sure(data.inputs), data.labels.roll(1))
    confidence, accuracy, share = map(torch.tensor, zip(*found.bins, strict=True))
    assert float(share.sum()) == pytest.approx(1) and float((accuracy * share).sum()) == pytest.approx(found.accuracy)
    assert float(((confidence - accuracy).abs() * share).sum()) == pytest.approx(found.calibration_error)
    assert float((confidence * share).sum()) == pytest.approx(found.confidence)
