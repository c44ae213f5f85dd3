from __future__ import annotations

import numpy as np
import pytest

SCORES = {"rising": (20.1, 22.6, 25.5, 28.6, 31.9), "falling": (20.1, 26.6, 25.5, 20.6, 17.9)}


@pytest.fixture
def scores(tmp_path):
    for name, bleu in SCORES.items():
        rows = [f"{t},{b},{3 - k / 10}" for k, (t, b) in enumerate(zip((1, 3, 10, 40, 200), bleu, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(["tokens_B,bleu,loss", *rows]))
    return tmp_path


def test_transfer_judges_then_predicts(limbeck, scores):
    said = limbeck("task", "transfer", "rising.csv", "--at", "1T", "--noise", 0.3, "--baseline", 15, cwd=scores)
    assert said.code == 0 and said.out.startswith("aligned")
    assert "at 1 T tokens" in said.out and "5× beyond" in said.out
    assert max(map(len, said.out.splitlines())) <= 80


def test_transfer_refuses_a_misaligned_task_and_says_why(limbeck, scores):
    arguments = ("task", "transfer", "falling.csv", "--at", "1T", "--noise", 0.3, "--json")
    record = limbeck(*arguments, cwd=scores).json()
    assert record["verdict"] == "misaligned" and record["prediction"] is None
    assert "the score falls by 8.7 points" in record["refused"]
    assert record["cross_entropy"]["alpha"] > 0
    forced = limbeck(*arguments, "--force", cwd=scores).json()
    assert forced["refused"] is None and len(forced["prediction"]["mean"]) == 1


@pytest.mark.parametrize("law", ["transfer-score", "ceiling-score"])
def test_a_fit_of_misaligned_scores_refuses_to_extrapolate_in_the_same_words(limbeck, tmp_path, law):
    rows = [f"{t},{b}" for t, b in zip((1, 3, 10, 40, 200), (26.1, 26.6, 25.5, 20.6, 17.9), strict=True)]
    (tmp_path / "falling.csv").write_text("\n".join(["tokens_B,bleu", *rows]))
    report = limbeck("task", "transfer", "falling.csv", "--at", "1T", "--json", cwd=tmp_path).json()
    assert report["verdict"] == "misaligned" and "rank correlation -0.9" in report["refused"]
    fitted = limbeck("fit", "falling.csv", "--law", law, "--bootstrap", 20, "--plot", "fit.html", cwd=tmp_path)
    assert fitted.code == 0 and "misaligned: the score falls as pre-training grows" in fitted.out
    assert report["refused"] in limbeck("fit", "falling.csv", "--law", law, "--json", cwd=tmp_path).out
    refused = limbeck("predict", "fit.json", "tokens=1T", cwd=tmp_path)
    assert refused.code == 2 and not refused.out and " ".join(refused.err.split()).endswith(report["refused"])
    assert 15 < limbeck("predict", "fit.json", "tokens=1T", "--force", "--json", cwd=tmp_path).json()["mean"] < 30
    assert limbeck("predict", "fit.json", "tokens=100B", cwd=tmp_path).code == 0


def test_a_fit_of_rising_scores_is_extrapolated(limbeck, scores):
    fitted = limbeck("fit", "rising.csv", "--law", "transfer-score", "--bootstrap", 20, cwd=scores)
    assert "aligned" not in fitted.out
    assert limbeck("predict", "fit.json", "tokens=1T", "--json", cwd=scores).json()["mean"] == pytest.approx(35, abs=1)


@pytest.fixture
def draws(tmp_path):
    rng, rows = np.random.default_rng(0), ["params,problem,attempts,passes"]
    for n in (1e4, 3e5, 1e6, 1e7, 1e8):
        for i in range(40):
            waits = rng.geometric(max(np.exp(-(600 + 30 * i) * n**-0.4), 1e-12), 5).clip(max=10**6).cumsum()
            rows.append(f"{n},{i},{min(waits[-1], 5000)},{(waits <= 5000).sum()}")
    (tmp_path / "draws.csv").write_text("\n".join(rows))
    return tmp_path


def test_passes_measure_test_and_predict(limbeck, draws):
    record = limbeck("task", "passes", "draws.csv", "--at", "1B", "--json", cwd=draws).json()
    assert record["x"] == [1e4, 3e5, 1e6, 1e7, 1e8] and record["given_up"][0] == 1
    assert record["notes"][0].startswith("params 1e+04 left out of the law: no pass in 2e+05 draws")
    truth = np.exp(-(600 + 30 * np.arange(40)) * 1e9**-0.4).mean()
    assert record["by_instance"]["value"] == pytest.approx(truth, abs=0.05)
    said = limbeck("task", "passes", "draws.csv", "--at", "1B", cwd=draws)
    assert "growth" in said.out or "emergence" in said.out
    assert "100% given up" in said.out and "by instance" in said.out


def test_one_usable_size_is_no_law_and_the_rest_goes_on(limbeck, draws):
    record = limbeck("task", "passes", "draws.csv", "--where", "params<=3e5", "--at", "1M", "--json", cwd=draws).json()
    assert record["prediction"] is None and "the law needs two or more" in record["refused"]
    assert 0 <= record["by_instance"]["value"] < 0.5 and record["growth"]["verdict"] == "undecided"


def test_zero_pass_rates_are_named_and_can_be_left_out_of_a_fit(limbeck, tmp_path):
    rates = "params,pass_rate\n1e6,0\n1e7,0.01\n1e8,0.2\n1e9,0.5\n1e10,0.7\n1e11,1\n"
    (tmp_path / "rates.csv").write_text(rates)
    arguments = ("fit", "rates.csv", "--law", "pass-rate", "--bootstrap", 0)
    refused = limbeck(*arguments, cwd=tmp_path)
    assert refused.code == 2 and "row 2  pass_rate  0: must be positive" in refused.err
    record = limbeck(*arguments, "--skip-bad", "--json", cwd=tmp_path).json()
    assert record["points"] == 5 and record["dropped"] == ["dropped row 2: pass_rate 0: must be positive"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["passes", "draws.csv", "--needed", "3"], "at most needed=3"),
        (["passes", "draws.csv", "--estimator", "mean"], "choose umvu"),
        (["passes", "draws.csv", "--scale", "flops"], "no column flops"),
        (["transfer", "draws.csv"], "no column tokens and no column score"),
    ],
)
def test_mistakes_are_named(limbeck, draws, arguments, words):
    said = limbeck("task", *arguments, cwd=draws)
    assert said.code == 2 and words in said.err and not said.out
