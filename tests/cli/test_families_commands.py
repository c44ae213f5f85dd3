from __future__ import annotations

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def families_csv(tmp_path_factory):
    """Three families of four sizes, and one of one size."""
    rows = ["family,run,params,tokens,loss"]
    for k, name in enumerate(("a", "b", "c", "alone")):
        for n in (1e8, 3e8, 1e9, 4e9) if name != "alone" else (1e9,):
            for t in np.geomspace(0.2 * n, 20 * n, 10):
                loss = 1.7 + k / 10 + 400 * n**-0.325 + 2000 * t**-0.4
                rows.append(f"{name},{name}-{n:g},{n:.0f},{t:.0f},{loss:.6f}")
    path = tmp_path_factory.mktemp("families") / "runs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_families_are_listed_with_their_errors_and_those_left_out(limbeck, families_csv):
    record = limbeck("compare", "families", families_csv, "--json").json()
    assert [row["family"] for row in record["families"]] == ["a", "b", "c"]
    assert record["median"]["chosen"] < 0.01 < record["median"]["best loss"]
    assert "one value of params" in record["skipped"]["alone"]
    said = limbeck("compare", families_csv, "--protocol", "families")
    assert said.code == 0 and "median ARE" in said.out and "alone left out" in said.out
    assert max(map(len, said.out.splitlines())) <= 110


def test_one_family_is_studied(limbeck, families_csv):
    record = limbeck("compare", "families", families_csv, "--family", "b", "--json").json()
    assert record["are"] < 1e-4 and record["grid"][0]["models"] == 3
    assert record["left_out"] == {}  # three sizes are all that the law needs: none can be spared
    for name, words in (("alone", "one value of params"), ("bb", "there are a, b, c")):
        said = limbeck("compare", "families", families_csv, "--family", name)
        assert said.code == 2 and words in said.err and said.out == ""


def test_parameters_are_split_between_two_parts(limbeck, tmp_path):
    sizes = np.geomspace(1e6, 1e8, 4)
    rows = [f"{e:.0f},{d:.0f},{1 + 90 * e**-0.2 * d**-0.3:.8f}" for e in sizes for d in sizes]
    (tmp_path / "shapes.csv").write_text("\n".join(["encoder_params,decoder_params,loss", *rows]) + "\n")
    options = ("--law", "two-part", "--bootstrap", 20, "--holdout", 0)
    assert limbeck("fit", "shapes.csv", *options, cwd=tmp_path).code == 0
    said = limbeck("plan", "parts", "fit.json", "--budget", "100M", "--json", cwd=tmp_path)
    assert said.json()["encoder"]["value"] == pytest.approx(4e7, rel=1e-3)
    assert "to the encoder" in limbeck("plan", "parts", "fit.json", "--budget", "100M", cwd=tmp_path).out
    for wrong, words in ((("--budget", "-1"), "must be positive"), (("--budget", "1M", "--cost", "1"), "two numbers")):
        said = limbeck("plan", "parts", "fit.json", *wrong, cwd=tmp_path)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err
    assert json.loads((tmp_path / "fit.json").read_text())["law"] == "two-part"


@pytest.mark.parametrize("command", ["compare families", "plan parts"])
def test_help_of_families_and_parts_starts_with_an_example(limbeck, command):
    assert f"Example: limbeck {command}" in limbeck(*command.split(), "--help").out
