"""Papers about what a classifier should copy from its teacher."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.errors import LimbeckError
from limbeck.papers import get
from limbeck.papers._glyphs import CHARACTERS, FOLDER, glyphs

pytest.importorskip("sklearn")
RAW, Z = [94.0, 90.0, 10.0, 10.0], [93.0, 94.0, 94.0, 93.0]


def standardised(raw: list[float], z: list[float], loss: Any = (0.2, 1.0), fitted: Any = (0.2, 0.19)) -> Any:
    rows = [{"sgd": np.array([raw, z]) / 100 + 0.001 * k, "accuracy": [0.9, 0.9], "loss": loss, "fitted": fitted}
            for k in range(3)]  # fmt: skip
    return get("logit-standardization").conclude(rows)


def test_robustness_follows_from_the_numbers() -> None:
    found = standardised(RAW, Z)
    np.testing.assert_allclose(list(found.effects), 83.0)
    assert all(map(bool, found.checks.values()))
    assert "SGD gives 94.1 and 94.1 %" in found.notes[0]
    for broken in (standardised(RAW, RAW), standardised(Z, Z), standardised(RAW, Z, loss=(0.6, 1.0)),
                   standardised(RAW, Z, fitted=(0.2, 0.25))):  # fmt: skip
        assert not all(map(bool, broken.checks.values()))


def test_a_quick_run_sees_raw_logits_fail_and_standardised_ones_stand() -> None:
    found = get("logit-standardization").measure(0, quick=True)
    raw, z = np.array(found["sgd"])
    assert raw[-1] <= 0.2 and z.min() > 0.7 and raw[0] > 0.7
    assert found["loss"][1] > 2 * found["loss"][0] and found["fitted"][1] < 1.3 * found["fitted"][0]


def ranked(accuracy: list[float], letters: bool = True, trust: float = 0.8) -> Any:
    rows = [{"accuracy": np.array(accuracy) + 0.01 * k, "loss": [1.0] * 7, "teacher": 0.7, "trust": trust,
             "letters": letters} for k in range(3)]  # fmt: skip
    return get("pld").conclude(rows)


def test_the_verdict_on_rankings_follows_from_the_numbers() -> None:
    found = ranked([0.27, 0.26, 0.30, 0.29, 0.31, 0.28, 0.2])
    np.testing.assert_allclose(list(found.effects), 4.0)
    assert all(map(bool, found.checks.values())) and "62 digits and letters" in found.notes[0]
    assert "too sure" not in found.notes[0] and "KD +3.0 ± 0.0, DIST +2.0 ± 0.0" in found.notes[1]
    assert not all(ranked([0.27, 0.26, 0.31, 0.31, 0.28, 0.3, 0.2]).checks.values())
    assert not all(ranked([0.27, 0.26, 0.31, 0.31, 0.31, 0.3, 0.29]).checks.values())
    assert "too sure" in ranked([0.9] * 7, letters=False, trust=0.99).notes[0]


def test_without_letters_the_paper_runs_on_digits_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="make data"):
        glyphs(1, 0)
    found = get("pld").measure(0, quick=True)
    assert found["letters"] is False and found["teacher"] > 0.9 and len(found["accuracy"]) == 7
    assert "ten digits, ten labels each" in get("pld").conclude([found, found]).notes[0]


@pytest.mark.weights
def test_characters_are_drawn_with_a_seed() -> None:
    first, again, other = glyphs(3, 0), glyphs(3, 0), glyphs(3, 1)
    assert first.inputs.shape == (186, 1, 16, 16) and len(first.classes) == len(CHARACTERS) == 62
    assert torch.equal(first.inputs, again.inputs) and not torch.equal(first.inputs, other.inputs)
    assert first.inputs.amax((1, 2, 3)).min() > 0.4  # no empty picture


def test_a_wheel_without_typefaces_has_no_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        wheel.writestr(f"{FOLDER}DejaVuSansDisplay.ttf", b"symbols")
    (tmp_path / "matplotlib-0.whl").write_bytes(content.getvalue())
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    with pytest.raises(LimbeckError, match="no typefaces"):
        glyphs(1, 0)
