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


def test_plan_bits_from_a_table_and_from_its_fit(limbeck, tmp_path):
    rows = ["run,params,bits,loss"]
    for k, params in enumerate((1e8, 3e8, 1e9, 3e9, 1e10)):
        rows += [f"m{k},{params},{b},{1.8 + (x / params / b) ** 0.3:.4f}" for b, x in ((2, 6e7), (4, 2e6), (16, 8e6))]
    (tmp_path / "runs.csv").write_text("\n".join(rows))
    plan = limbeck("plan", "bits", "runs.csv", "--memory", "24GB", "--json", cwd=tmp_path).json()
    assert plan["best"] == 4.0 and [o["params"] for o in plan["options"]] == [9.6e10, 4.8e10, 1.2e10]
    limbeck("fit", "runs.csv", "--law", "bit-level", cwd=tmp_path)
    said = limbeck("plan", "bits", "fit.json", "--memory", "24GB", "--bits", "4,16", cwd=tmp_path)
    assert said.code == 0 and "← best" in said.out.splitlines()[1]
    for wrong, words in (
        (["runs.csv"], "one of the two"),
        (["runs.csv", "--memory", "1G", "--params", "1B"], "one of the two"),
        (["runs.csv", "--memory", "1G", "--bits", "5"], "2, 4, 16 bits"),
        (["runs.csv", "--memory", "much"], '"much" is not a number'),
        (["none.csv", "--memory", "1G"], "none.csv does not exist"),
    ):
        said = limbeck("plan", "bits", *wrong, cwd=tmp_path)
        assert said.code == 2 and words in said.err and said.out == "" and "Traceback" not in said.err


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
        "plan/bits",
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


def test_the_doctor_knows_the_extras_as_they_are():
    """Every package that the doctor looks for is brought by the extra that it names."""
    import tomllib
    from pathlib import Path

    from limbeck.cli.machine import MEMBERS, extra_of

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    brought = {"core": project["dependencies"], **project["optional-dependencies"]}
    for extra, packages in MEMBERS.items():
        names = {one.partition(">")[0] for one in brought[extra]}
        assert set(packages) <= names, extra
    found = [extra_of(name) for name in ("vesin", "torch_geometric.nn", "ray", "mlflow", "diffusers", "unheard")]
    assert found == ["atoms", "graphs", "cluster", "tracking", "diffusion", None]
