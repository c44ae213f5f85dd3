from __future__ import annotations

import re

import pytest

from limbeck.errors import FittingError
from limbeck.laws import load_fit


def test_fit_prints_json_alone_with_plain_numbers(fitted):
    path, said = fitted
    record = said.json()
    assert said.code == 0, said.err
    assert record["law"] == "chinchilla" and record["points"] == 40
    assert set(record["parameters"]) == {"E", "A", "B", "alpha", "beta"}
    assert record["parameters"]["E"] == pytest.approx(1.8, rel=0.03)
    low, high = record["intervals"]["E"]
    assert low < record["parameters"]["E"] < high
    assert record["objective"] == load_fit(path).objective
    assert path.with_name("fit.html").read_text().startswith("<!doctype html>")


def test_fit_speaks_in_one_plain_screen(limbeck, runs_csv, tmp_path):
    said = limbeck("fit", runs_csv, "--bootstrap", 100, cwd=tmp_path)
    assert said.code == 0 and (tmp_path / "fit.json").is_file()
    assert "40 runs" in said.out and "irreducible loss" in said.out and "saved fit.json" in said.out
    assert "\x1b" not in said.out and max(map(len, said.out.splitlines())) <= 100
    assert len(said.out.splitlines()) < 30


def test_predict_says_what_python_says(limbeck, fitted):
    path, _ = fitted
    record = limbeck("predict", path, "params=7B", "tokens=2e12", "--level", 0.9, "--json").json()
    there = load_fit(path).predict(level=0.9, params=7e9, tokens=2e12)
    assert record["mean"] == there.mean[0] and record["lower"] == there.lower[0] and record["upper"] == there.upper[0]
    assert record["extrapolation"] > 10 and record["level"] == 0.9
    assert "beyond the largest run" in limbeck("predict", path, "params=7B", "tokens=2e12").out


def test_compare_ranks_laws_and_baselines(limbeck, runs_csv):
    record = limbeck("compare", "laws", runs_csv, "--laws", "power,chinchilla", "--bootstrap", 50, "--json").json()
    assert "chinchilla" in str(record) and "last value" in str(record)
    assert limbeck("compare", "laws", runs_csv, "--laws", "power,chinchilla", "--bootstrap", 50).out.startswith(
        "chinchilla"
    )


def test_fixed_parameters_and_priors_reach_the_fit(limbeck, runs_csv, tmp_path):
    said = limbeck(
        "fit", runs_csv, "--fix", "E=1.7", "--prior", "alpha=0.4,0.1", "--bootstrap", 50, "--json", cwd=tmp_path
    )
    record = said.json()
    assert record["parameters"]["E"] == 1.7 and record["intervals"]["E"] is None
    assert record["priors"]["alpha"] == {"mean": 0.4, "sd": 0.1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--law", "chinchila"], 'Did you mean "chinchilla"'),
        (["--fix", "F=1"], 'no parameter "F"'),
        (["--fix", "E"], "write it as name=value"),
        (["--prior", "alpha=0.4"], "mean and s.d."),
        (["--delta", "-1"], "positive number"),
        (["--space", "cubic"], "log, linear or relative"),
        (["--where", "outlier=0"], 'no column "outlier"'),
        (["--method", "magic"], "magic"),
        (["--level", "80"], "between 0 and 1"),
    ],
)
def test_a_mistake_is_one_message_and_code_2(limbeck, runs_csv, tmp_path, arguments, words):
    said = limbeck("fit", runs_csv, "--bootstrap", 20, *arguments, cwd=tmp_path)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err and said.out == ""


def test_bad_rows_are_listed_and_can_be_skipped(limbeck, runs_csv, tmp_path):
    bad = tmp_path / "bad.csv"
    lines = runs_csv.read_text().splitlines()
    bad.write_text("\n".join([*lines, "-7,1000000000,3.0", "50000000,abc,3.0", "50000000,2e9,nan"]) + "\n")
    said = limbeck("fit", bad, "--bootstrap", 20, cwd=tmp_path)
    assert said.code == 2 and "3 rows cannot be used" in said.err and "--skip-bad" in said.err
    assert re.search(r"row 42 +params", said.err) and "abc" in said.err
    assert not (tmp_path / "fit.json").exists()
    again = limbeck("fit", bad, "--bootstrap", 20, "--skip-bad", cwd=tmp_path)
    assert again.code == 0 and "40 runs" in again.out


def test_files_that_are_not_fits_or_tables(limbeck, tmp_path):
    (tmp_path / "junk.json").write_bytes(b"\x00\xff\x00")
    for arguments in (
        ["predict", "junk.json", "params=1"],
        ["predict", "none.json", "params=1"],
        ["fit", "none.csv"],
        ["fit"],
        ["plan", "compute", "junk.json", "--flops", "1e20"],
        ["report", "nowhere"],
        ["distill", "none.yaml"],
        ["reproduce", "no-such-paper"],
        ["reproduce"],
    ):
        said = limbeck(*arguments, cwd=tmp_path)
        assert said.code == 2 and said.err.strip() and "Traceback" not in said.err, (arguments, said)


@pytest.mark.parametrize(
    "held", ['{"law": "chinchilla", "options": {}}', '{"law": "chinchilla", "options": {"a": 1}}', "[]"]
)
def test_a_damaged_fit_is_named(tmp_path, held):
    (tmp_path / "fit.json").write_text(held)
    with pytest.raises(FittingError, match=r"fit\.json is not a saved fit\. Write one with: limbeck fit"):
        load_fit(tmp_path / "fit.json")
    with pytest.raises(FittingError, match=r"none\.json does not exist\. Write one with: limbeck fit"):
        load_fit(tmp_path / "none.json")


def test_debug_shows_the_traceback(limbeck, tmp_path):
    said = limbeck("fit", "none.csv", "--debug", cwd=tmp_path)
    assert "Traceback" in said.err and said.code != 0


def test_listings(limbeck):
    assert "chinchilla" in limbeck("fit", "--laws").out
    assert {row["law"] for row in limbeck("fit", "--laws", "--json").json()} >= {"chinchilla", "kaplan", "power"}
    assert "n_params" in limbeck("fit", "--columns").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "RUNS", "--out", "/proc/none/f.json", "--bootstrap", 20], "/proc/none"),
        (["fit", "RUNS", "--fix", "E=-5", "--bootstrap", 20], "must lie in 0"),
        (["predict", "FIT", "params=-7B", "tokens=2T"], "no finite value"),
        (["predict", "FIT", "params=0", "tokens=2T"], "no finite value"),
        (["plan", "teacher", "--student-params", "0", "--tokens", "1B", "--teachers", "TEACHERS"], "must be positive"),
        (["plan", "teacher", "--student-params", "1B", "--tokens", "-5", "--teachers", "TEACHERS"], "must be positive"),
        (
            ["plan", "teacher", "--student-params", "1B", "--tokens", "1B", "--teachers", "TEACHERS", "--level", "3"],
            "between 0 and 1",
        ),
    ],
)
def test_values_without_a_meaning_are_refused(limbeck, fitted, runs_csv, tmp_path, arguments, words):
    (tmp_path / "teachers.csv").write_text("name,params,loss\nseven,7e9,1.94\n")
    places = {"RUNS": runs_csv, "FIT": fitted[0], "TEACHERS": tmp_path / "teachers.csv"}
    said = limbeck(*[places.get(a, a) for a in arguments], cwd=tmp_path)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err and said.out == ""


def test_predict_knows_the_names_people_use(limbeck, fitted):
    short = limbeck("predict", fitted[0], "N=7B", "D=2T", "--json").json()
    assert short["columns"] == {"params": 7e9, "tokens": 2e12}


def test_a_table_that_looks_like_checkpoints_gets_a_hint(limbeck, runs_csv, tmp_path):
    header, *rows = runs_csv.read_text().splitlines()
    few = [f"{(1, 2, 4)[i % 3]}e8,{row.split(',', 1)[1]}" for i, row in enumerate(rows)]
    (tmp_path / "curves.csv").write_text("\n".join([header, *few]) + "\n")
    options = ("--bootstrap", 20, "--holdout", 0)
    assert "--map run=COLUMN" in limbeck("fit", "curves.csv", *options, cwd=tmp_path).out
    assert "--map run=COLUMN" not in limbeck("fit", runs_csv, *options, cwd=tmp_path).out


def test_version(limbeck):
    assert limbeck("--version").out == "limbeck 0.1.0\n"


def test_a_teacher_that_is_still_to_be_trained(limbeck):
    asked = ["plan", "teacher", "--student-params", "1e9", "--flops", "1e21", "--scenario"]
    both, free = (limbeck(*asked, scenario, "--json").json() for scenario in ("both", "inference"))
    assert both["loss"] > both["supervised_loss"] and free["loss"] == pytest.approx(2.2083, abs=1e-4)
    assert limbeck(*asked, "both").out.startswith("train alone: ")
