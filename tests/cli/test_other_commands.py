from __future__ import annotations

import subprocess
import sys

import pytest


def test_plan_compute_and_teacher(limbeck, fitted, tmp_path):
    path, _ = fitted
    plan = limbeck("plan", "compute", path, "--flops", "1e22", "--json").json()
    assert plan["params"]["value"] * plan["tokens"]["value"] * 6 == pytest.approx(1e22)
    assert plan["params"]["lower"] < plan["params"]["value"] < plan["params"]["upper"]
    served = limbeck("plan", "compute", path, "--target-loss", 2.2, "--inference-tokens", "10T", "--json").json()
    assert served["training_flops"]["value"] < served["total_flops"]["value"]
    (tmp_path / "teachers.csv").write_text("name,params,loss\nseven,7e9,1.94\nseventy,7e10,1.66\n")
    options = ["--student-params", "1B", "--tokens", "200B", "--teachers", tmp_path / "teachers.csv"]
    teacher = limbeck("plan", "teacher", *options, "--json").json()
    assert teacher["best"] in {"seven", "seventy", "train alone"}
    assert "train alone" in limbeck("plan", "teacher", *options).out


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "compute", "FIT"],
        ["plan", "compute", "FIT", "--flops", "many"],
        ["plan", "compute", "FIT", "--target-loss", "0.1", "--inference-tokens", "1T"],
        ["plan", "teacher", "--student-params", "1B", "--teachers", "none.csv", "--tokens", "1B"],
        ["reproduce", "capacity-gap-law", "--seeds", "one"],
        ["plan", "teacher", "FIT", "--student-params", "1B", "--teachers", "none.csv", "--tokens", "1B"],
    ],
)
def test_what_cannot_be_done(limbeck, fitted, arguments):
    said = limbeck(*[str(fitted[0]) if a == "FIT" else a for a in arguments])
    assert said.code == 2 and said.err.strip() and "Traceback" not in said.err and said.out == ""


def test_report_of_a_folder_with_a_fit(limbeck, fitted):
    said = limbeck("report", fitted[0].parent, "--json")
    assert said.code == 0 and said.json()["report"].endswith("report.html")
    assert (fitted[0].parent / "report.html").stat().st_size > 10_000


def test_doctor(limbeck):
    record = limbeck("doctor", "--json").json()
    assert record["limbeck"] and record["extras"]["core"]["numpy"] and "lm" in record["extras"]


def test_listing_papers_and_help_wait_for_no_torch():
    script = (
        "import sys\n"
        "from limbeck.cli.app import app\n"
        "for line in (['reproduce', '--list'], ['fit', '--laws'], ['plan', '--help']):\n"
        "    try: app(line)\n"
        "    except SystemExit: pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'sklearn', 'pandas'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "capacity-gap-law" in done.stdout and done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "fit",
        "predict",
        "compare/laws",
        "plan/compute",
        "plan/teacher",
        "distill",
        "report",
        "reproduce",
        "doctor",
    ],
)
def test_help_teaches_by_example(command):
    command = command.split("/")
    from typer.testing import CliRunner

    from limbeck.cli.app import app

    said = CliRunner().invoke(app, [*command, "--help"])
    assert said.exit_code == 0 and f"Example: limbeck {' '.join(command)}" in said.output
