"""Digits as tokens, models rounded after their training, and the precision that small models choose."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.bit_level_scaling import BITS, INPUTS, SYMBOLS, TRAIN, network, rounded, tokens

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from limbeck.papers._quantised_students import TOP, coarse, students  # noqa: E402


def test_inputs_are_what_came_before_the_place_and_the_class() -> None:
    seen, target = tokens(0)
    assert seen.shape == (1797, 32, 10) and target.shape == (1797, 32)
    assert target.min() == 0 and target.max() == SYMBOLS - 1 and seen.max() == INPUTS - 1
    np.testing.assert_array_equal(seen[:, 5, 7] - 7 * (SYMBOLS + 1), target[:, 4])
    assert (seen[:, 0, :8] % (SYMBOLS + 1) == SYMBOLS).all()  # nothing before the first token
    assert len(np.unique(seen[..., 9])) == 10 and (np.ptp(seen[..., 9], axis=1) == 0).all()


def test_coarse_weights_cost_bits_less_and_loss_more() -> None:
    rows = rounded(tokens(0), 8, BITS, 60, 0)
    loss = {row["bits"]: row["loss"] for row in rows}
    assert [row["total_bits"] for row in rows] == [8 * (INPUTS + SYMBOLS) * b + 16 * (8 + 2 * SYMBOLS) for b in BITS]
    assert loss[2] > loss[3] + 0.05 and loss[3] > loss[4]
    assert abs(loss[8] - loss[16]) < 0.002 and loss[16] < np.log(SYMBOLS)


def test_a_few_steps_beat_the_frequencies_of_tokens() -> None:
    text = tokens(0)
    shares = np.bincount(text[1][:TRAIN].ravel(), minlength=SYMBOLS) / text[1][:TRAIN].size
    assert rounded(text, 24, [16], 60, 0)[0]["loss"] < -np.log(shares[text[1][TRAIN:]]).mean() - 0.2


def test_the_law_of_small_models_chooses_for_a_memory_that_holds_larger_ones() -> None:
    law = {"bits": BITS, "scale": (9e5, 2e5, 1e5, 1.2e5, 1.5e5, 3e5)}

    def row(bits: int, memory: float) -> dict[str, float]:
        scale = dict(zip(law["bits"], law["scale"], strict=True))[bits]
        return {"total_bits": memory, "bits": bits, "loss": 1.2 + (scale / memory) ** 0.4}

    small = [row(b, n * b) for n in (2e3, 3e3, 4e3, 6e3, 9e3, 13e3) for b in BITS]
    taught = {"loss": [[1.2, 0.3, 0.3, 0.3, 0.3], [0.2, 0.05, 0.05, 0.05, 0.05], [0.02] * 5], "top": [[0.2] * 5] * 3,
              "longer": -0.01}  # fmt: skip
    found = get("bit-level-scaling").conclude([[small, [row(b, 2e5) for b in BITS], taught]] * 3)
    assert found.details["chosen"] == [4.0] * 3 and all(np.all(one) for one in found.checks.values())
    assert "75 to 75 % of what rounding costs at 2 bits and 75 to 75 % at 3" in found.notes[3]
    assert "no whole level is won" in found.notes[3] and "no top-k loss beats KL" in found.notes[4]
    expected = row(16, 2e5)["loss"] - row(4, 2e5)["loss"]
    np.testing.assert_allclose(list(found.effects), expected)
    np.testing.assert_allclose(found.details["by the law"], found.details["loss at the memory"], atol=1e-6)


def test_students_of_few_bits_recover_what_rounding_costs() -> None:
    inputs, target = map(torch.from_numpy, tokens(0))
    teacher = network(inputs, target, 16, 120, 0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    found = students(teacher, inputs, target, TRAIN, 40, 0)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    loss, top = np.array(found["loss"]), np.array(found["top"])
    assert loss.shape == top.shape == (3, 5) and (top > 0).all()
    assert (loss[0, 1:] < 0.7 * loss[0, 0]).all() and loss[0, 0] > loss[1, 0] > loss[2, 0] > 0
    assert (top[0, 1:] < top[0, 0]).all() and len({*loss[0].round(6)}) == 5
    with torch.no_grad():
        said, taught = (
            torch.func.functional_call(teacher, values, inputs[TRAIN:].flatten(0, 1))
            for values in (coarse(teacher, 2), {})
        )
        kept = taught.topk(TOP).indices
        p, q = (logits.gather(-1, kept).log_softmax(-1) for logits in (taught, said))
        np.testing.assert_allclose(top[0, 0], float((p.exp() * (p - q)).sum(-1).mean()), atol=2e-5)


def test_weights_of_two_bits_have_three_values_and_a_gradient() -> None:
    model = torch.nn.Sequential(torch.nn.EmbeddingBag(5, 3), torch.nn.ReLU(), torch.nn.Linear(3, 4))
    values = coarse(model, 2)
    assert all(len(unit.unique()) <= 3 for unit in values["0.weight"].T) and values["0.weight"].shape == (5, 3)
    values["0.weight"].sum().backward()
    assert torch.equal(model[0].weight.grad, torch.ones(5, 3))
