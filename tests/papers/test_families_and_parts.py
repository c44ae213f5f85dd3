from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.hitchhikers_guide import coupling
from limbeck.papers.nmt_scaling import SHAPES, Language, decoder_size, encoder_size


def test_families_without_tables_are_drawn_and_claim_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    paper = get("hitchhikers-guide")
    measured = paper.measure(0, quick=True)
    assert measured["table"] == "synthetic"
    assert measured["median"]["chosen"] < 0.005 < measured["median"]["most trained"]  # noise 0.5 % a checkpoint
    outcome = paper.conclude([measured] * 3)
    assert any("no evidence" in note for note in outcome.notes) and not outcome.checks
    json.dumps(outcome.details, allow_nan=False)


def test_schedules_are_forecast_by_rules_of_the_other_schedules(data_folder, monkeypatch):
    monkeypatch.setenv("LIMBECK_DATA", str(data_folder))
    measured = get("hitchhikers-guide").measure(2, quick=True)
    assert measured["table"] == "lr-schedule-curves" and len(measured["families"]) == 9
    assert measured["median"]["chosen"] < 0.01 < measured["median"]["most trained"]


def test_parameters_that_move_together_are_seen():
    rng = np.random.default_rng(0)
    alpha, beta = rng.uniform(0.2, 0.5, (2, 40))
    p = np.stack([20 * alpha, alpha, 20 * beta, beta, rng.normal(size=40)], 1)
    found = coupling(p)
    assert found["correlation of ln A and alpha"] == pytest.approx(1) and found["variance in three components"] > 0.9999


def test_the_floor_of_a_made_up_language_is_what_a_perfect_model_loses():
    language = Language(0)
    x, y = language.draw(200_000, np.random.default_rng(1))
    lemma = language.lemma[x[:, 0], x[:, 1]]
    assert (y // 4 == lemma).all()
    told = -np.log(language.forms[x[:, 2], lemma, y % 4])
    assert abs(told.mean() - language.floor) < 4 * told.std() / 200_000**0.5  # 4 s.e.
    assert len(SHAPES) == 16 and encoder_size(4) == 33 * 4 + 5 * 16
    assert decoder_size(8) == 33 * 8 + 9 * 8 + 9 * 16


def test_a_wider_model_learns_the_language_better():
    pytest.importorskip("torch")
    from limbeck.papers.nmt_scaling import train

    text = Language(0).draw(60 * 512 + 20_000, np.random.default_rng(2))
    narrow, wide = (train(text, width, width, 0) for width in (4, 64))
    assert wide < narrow - 0.1 and train(text, 4, 4, 0) == narrow
