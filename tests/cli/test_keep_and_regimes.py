from __future__ import annotations

import numpy as np
import pytest


def test_plan_keep_of_numbers_and_of_features(limbeck, tmp_path):
    pytest.importorskip("sklearn")
    said = limbeck("plan", "keep", "--pool", "2k", "--dimension", 100, "--probe-error", 0.0, "--keep", 0.5)
    assert said.code == 0 and "the hard ones" in said.out
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    np.savez(tmp_path / "features.npz", features=rng.standard_normal((200, 4)) + 2 * labels[:, None], labels=labels)
    out, plot = tmp_path / "kept.txt", tmp_path / "keep.html"
    record = limbeck(
        "plan", "keep", tmp_path / "features.npz", "--keep", "40", "--out", out, "--plot", plot, "--json"
    ).json()
    assert record["kept"] == 40 and out.read_text().split() == [str(row) for row in record["rows"]]
    assert plot.stat().st_size > 10_000


def test_theory_regimes_and_exponents(limbeck, tmp_path):
    params, tokens = (a.ravel() for a in np.meshgrid([1e7, 1e8], np.geomspace(1e9, 1e11, 7)))
    loss = 2 + 400 * tokens**-0.3
    rows = [f"{n:.0f},{d:.0f},{y:.6f}" for n, d, y in zip(params, tokens, loss, strict=True)]
    (tmp_path / "runs.csv").write_text("\n".join(["params,tokens,loss", *rows]) + "\n")
    record = limbeck("theory", "regimes", tmp_path / "runs.csv", "--plot", tmp_path / "r.html", "--json").json()
    assert [curve["label"] for curve in record["curves"]] == ["resolution-limited"] * 2
    assert record["short"] == 7 and (tmp_path / "r.html").exists()
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 40)))
    record = limbeck("theory", "exponents", tmp_path / "x.npy", "--json").json()
    assert record["linear"] == pytest.approx(2 * record["constant"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "keep"], "give a file of features, or --pool"),
        (["plan", "keep", "none.npz"], "none.npz does not exist"),
        (["plan", "keep", "--pool", "9", "--dimension", "3", "--probe-error", "0", "--out", "x"], "--out needs"),
        (["theory", "regimes", "none.csv"], "none.csv does not exist"),
    ],
)
def test_mistakes_are_one_message(limbeck, tmp_path, arguments, said):
    done = limbeck(*arguments, cwd=tmp_path)
    assert done.code == 2 and said in done.err and done.out == "" and "Traceback" not in done.err


@pytest.mark.parametrize("command", [["plan", "keep"], ["theory", "regimes"], ["theory", "exponents"]])
def test_help_starts_with_an_example(command):
    from typer.testing import CliRunner

    from limbeck.cli.app import app

    said = CliRunner().invoke(app, [*command, "--help"])
    assert said.exit_code == 0 and f"Example: limbeck {' '.join(command)}" in said.output
