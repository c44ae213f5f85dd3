"""A calibration counts what it should: exact laws are met, wrong ones are not, what cannot be identified is refused."""

import json

import numpy as np
import polars as pl
import pytest

from limbeck.errors import PlanningError
from limbeck.planning import Calibration, Held, calibrate


def runs(noise: float, family: str = "a", bend: float = 0.0, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    tokens = 1e8 * 2.0 ** np.repeat(np.arange(14), 3)
    loss = (1.8 + 900 * tokens**-0.33) * np.exp(noise * rng.normal(size=len(tokens)))
    return pl.DataFrame({"tokens": tokens, "loss": loss + bend * (tokens > 3e10), "team": family})


def test_intervals_of_the_true_law_hold_what_they_should() -> None:
    """80 groups of 20 held-out runs or fewer; the share of runs inside is within 4 standard errors (0.02) of 0.8."""
    table = pl.concat([runs(0.01, f"g{k}", seed=k) for k in range(80)])
    found = calibrate(table, "power-floor:tokens", by="team", cuts=[0.7])
    covers = np.mean([one.coverage[0.8] for one in found.held])
    assert len(found.held) == 80 and abs(covers - 0.8) < 0.08
    assert np.median([one.error for one in found.held]) == pytest.approx(0.0108, abs=0.0015)  # noise 0.008, and the law
    assert all(one.error < one.baseline for one in found.held)


def test_a_law_that_bends_is_not_covered() -> None:
    found = calibrate(runs(0.002, bend=0.3), "power-floor:tokens", cuts=[0.5])
    (row,) = found.rows()
    assert row["coverage"][0.95] < 0.6 and row["bias"] < -0.03 and row["from"] == 64 and row["groups"] == 1


def test_groups_that_cannot_be_identified_are_refused() -> None:
    few = runs(0.01, "few").filter(pl.col("tokens") < 3e8)
    found = calibrate(pl.concat([runs(0.01), few]), "power-floor:tokens", by="team", name="table")
    assert {one.group for one in found.held} == {"table a"} and list(found.refused) == ["table few, power-floor:tokens"]
    assert "refused table few" in found.summary() and json.dumps(found.to_dict())
    with pytest.raises(PlanningError, match=r"nothing can be held out.*2 distinct"):
        calibrate(few, "power-floor:tokens")
    with pytest.raises(PlanningError, match="no column crew"):
        calibrate(few, "power-floor:tokens", by="crew")


def test_rows_are_medians_by_reach() -> None:
    def held(reach: float, error: float, inside: float) -> Held:
        return Held(f"g{reach}", "law", reach, 5, error, 0.2, -error, {0.8: inside})

    found = Calibration([held(3.0, 0.1, 1.0), held(4.0, 0.3, 0.5)], {"x": "why"}) + Calibration([held(4.1, 0.5, 0.0)])
    first, second = found.rows()
    assert (first["to"], first["cuts"], first["error"], first["coverage"]) == (4.0, 2, 0.2, {0.8: 0.75})
    assert (second["to"], second["error"], second["bias"]) == (8.0, 0.5, -0.5) and found.refused == {"x": "why"}
    text = found.summary()
    assert "up to 4×" in text and "better than the last value in 33 %" in text
    figure = found.plot()
    assert list(figure.data[0].y) == [75.0, 0.0] and list(figure.data[1].y) == [80.0, 80.0]
