"""The head, the masks and the scores of the tiny forecasters, and the laws of the paper's figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.laws import YAO_2024
from limbeck.papers import get

torch = pytest.importorskip("torch")
tiny: Any = pytest.importorskip("limbeck.papers._forecasters")


def raw(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 4 * tiny.COMPONENTS, generator=generator, dtype=torch.float64)


def test_many_degrees_of_freedom_are_a_gaussian() -> None:
    y = torch.linspace(-2, 2, 13, dtype=torch.float64)
    one = torch.tensor([[0.0, 1e6, 0.3, 0.7]], dtype=torch.float64).expand(13, 4)  # weight, df, loc, scale
    scale = math.log1p(math.exp(0.7))
    gaussian = 0.5 * ((y - 0.3) / scale) ** 2 + math.log(scale) + 0.5 * math.log(2 * math.pi)
    assert (-tiny.mixture(one).log_prob(y) - gaussian).abs().max() < 1e-5


def test_weights_do_not_see_a_constant_added_to_their_logits() -> None:
    outputs, y = raw(5), torch.randn(5, dtype=torch.float64)
    moved = outputs.clone()
    moved[:, : tiny.COMPONENTS] += 7.0
    torch.testing.assert_close(tiny.mixture(moved).log_prob(y), tiny.mixture(outputs).log_prob(y))


def test_density_integrates_to_one() -> None:
    y = torch.linspace(-400, 400, 400001, dtype=torch.float64)
    density = tiny.mixture(raw(1).expand(len(y), -1)).log_prob(y).exp()
    assert float(torch.trapezoid(density, y)) == pytest.approx(1.0, abs=1e-4)


def test_values_that_do_not_count_change_nothing() -> None:
    outputs, y = raw(6).requires_grad_(), torch.randn(6, dtype=torch.float64)
    counted = torch.tensor([True, False, True, True, False, False])
    tiny.mean_nll(outputs, torch.where(counted, y, math.nan), counted).backward()
    assert torch.equal(outputs.grad[~counted], torch.zeros(3, 4 * tiny.COMPONENTS, dtype=torch.float64))
    assert (outputs.grad[counted].abs().sum(1) > 0).all()


@given(st.floats(0.0, 1.0))
@settings(deadline=None)
def test_an_encoder_sees_a_context_and_has_a_target(share: float) -> None:
    seen = tiny.visible(share)
    assert seen.any() and not seen.all()
    assert torch.equal(seen, seen.sort(descending=True, stable=True).values)  # what is hidden is the end
    if 0.15 <= share <= 0.5:
        assert 1 / tiny.PATCHES <= float((~seen).float().mean()) <= 0.5


def test_an_encoder_does_not_look_at_what_is_hidden_and_a_decoder_not_ahead() -> None:
    windows = tiny.series("waves", 3, 0)
    changed = windows.clone()
    changed[:, 5:] += 100.0
    seen, everything = tiny.visible(3 / 8), torch.ones(tiny.PATCHES, dtype=torch.bool)
    encoder, decoder = (tiny.seeded(lambda c=causal: tiny.Forecaster(8, c), 0).eval() for causal in (False, True))
    assert torch.equal(encoder(windows, seen), encoder(changed, seen))
    before, after = decoder(windows, everything), decoder(changed, everything)
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5:], after[:, 5:])


def test_a_decoder_is_judged_on_the_next_patch() -> None:
    windows = tiny.series("walks", 4, 1)
    decoder = tiny.seeded(lambda: tiny.Forecaster(8, True), 0)
    outputs = decoder(windows, torch.ones(tiny.PATCHES, dtype=torch.bool))
    by_hand = -tiny.mixture(outputs[:, 3:-1]).log_prob(windows[:, 4:]).mean()
    torch.testing.assert_close(tiny.loss_of(decoder, windows, 0.5), by_hand)


def test_scores_of_forecasts_that_are_known() -> None:
    rng = np.random.default_rng(0)
    past, truth, guess = rng.normal(size=(5, 40)), rng.normal(size=(5, 12)), rng.normal(size=(5, 12))
    crps, _ = tiny.scores(np.repeat(guess[None], 9, 0), truth, past, 4)
    assert crps == pytest.approx(abs(guess - truth).sum() / abs(truth).sum(), rel=1e-12)  # 2 q averages to 1
    inside = np.repeat(past[None, :, :-4], 9, 0)
    assert tiny.scores(inside, past[:, 4:], past, 4)[1] == pytest.approx(1.0, rel=1e-12)
    naive = tiny.seasonal_naive(past, 12, 4)
    assert np.array_equal(naive[0, :, :8], np.concatenate([past[:, -4:]] * 2, 1))


def test_sources_are_standardised_by_their_first_half_and_differ_by_seed() -> None:
    for source in tiny.SOURCES:
        windows = tiny.series(source, 50, 3)
        first = windows.flatten(1)[:, :32]
        assert first.mean(1).abs().max() < 1e-5 and (first.std(1, correction=0) - 1).abs().max() < 1e-4
        assert torch.equal(windows, tiny.series(source, 50, 3)) and not torch.equal(windows, tiny.series(source, 50, 4))


def test_the_figures_give_back_the_printed_exponents(data_folder: Path) -> None:
    from limbeck.papers.timeseries_scaling import check_figures, laws_of_figures

    laws = laws_of_figures(pl.read_csv(data_folder / "tsfm_scaling" / "digitised_points.csv"))
    assert len(laws) == 12 and all(check_figures(laws).values())
    off = {key: abs(law.alpha - YAO_2024[key].parameters["alpha"]) for key, law in laws.items()}
    assert sorted(off.values())[-2] < 7e-4 and max(off, key=lambda k: off[k]) == ("decoder", "params", "lsf")
    encoder, decoder = (laws[kind, "params", "id"].interval() for kind in ("encoder", "decoder"))
    assert encoder.upper - encoder.value == pytest.approx(0.0025, abs=5e-5)
    assert decoder.upper - decoder.value == pytest.approx(0.0039, abs=5e-5)


def test_absent_figures_are_said_to_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    ladder = {"params": [1e3, 1e4, 1e5], "id": [2.0, 1.8, 1.7], "ood": [2.5, 2.4, 2.6]}
    one = {"left out": "waves", "encoder": ladder, "decoder": ladder, "scores": [(0.5, 0.7), (0.9, 1.1)]}
    outcome = get("timeseries-scaling").conclude([one, one, one])
    assert "absent" in outcome.notes[-1] and len(outcome.checks) == 2 and all(outcome.checks.values())
    assert "worse with size: waves (encoder)" in outcome.notes[1]
    assert next(iter(outcome.effects)) == pytest.approx(-0.0085, abs=1e-3)
