import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from limbeck.atoms import Sizes, build, load_potential, read_frames, save_potential
from limbeck.atoms.recipe import AtomsRecipe, evaluate_folder, params_of_student, read_atoms_recipe, run_recipe
from limbeck.cli.app import app
from limbeck.errors import ConfigError
from limbeck.settings import check_settings

TINY = {"layers": 1, "nodes": 6, "edges": 4, "angles": 0, "hidden": [6]}
GEOMETRY = {"cutoff": 3.5, "smooth": 3.0, "angle_cutoff": 3.0, "angle_smooth": 2.5}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"data": "emt:CuAl", "frames": 5, "student": TINY, "geometry": GEOMETRY, "steps": 3}
    return {**known, "out": str(folder / "out"), **changes}


def test_a_student_learns_from_its_teachers_dynamics_and_is_judged_by_true_labels(tmp_path: Path) -> None:
    recipe = settings(
        tmp_path, teacher={**TINY, "steps": 3}, dynamics={"starts": 2, "steps": 4, "every": 2, "temperatures": [50]}
    )
    done = run_recipe(recipe, progress=False)
    assert done.frames == (4, 4) and done.teacher is not None and not done.notes
    out = tmp_path / "out"
    visited = read_frames(next(out.glob("visited-*.extxyz")))
    assert [one.info["group"] for one in visited] == ["trajectory 0"] * 2 + ["trajectory 1"] * 2
    teacher = load_potential(out / "teacher")
    own = teacher(teacher.graph(visited[3].positions, list(visited[3].symbols), visited[3].cell.array, visited[3].pbc))
    np.testing.assert_allclose(visited[3].get_forces(), own.forces, atol=1e-6)
    assert visited[3].get_potential_energy() == pytest.approx(float(own.energy), abs=1e-6)
    true = read_frames("emt:CuAl", 5)  # what it is judged by is the truth, not the teacher
    held = read_frames(out / "held-out.extxyz")
    assert any(abs(held[0].get_potential_energy() - one.get_potential_energy()) < 1e-6 for one in true)
    assert params_of_student(check_settings(AtomsRecipe, recipe)) == done.trained.potential.params
    again = run_recipe(recipe, progress=False)  # a finished training returns at once
    assert again.trained.judged == done.trained.judged
    said = CliRunner().invoke(
        app,
        ["evaluate", done.student, "--against", str(out / "teacher"), "--data", str(out / "held-out.extxyz"), "--json"],
    )
    found = json.loads(said.stdout)
    assert found["student"]["force_mae"] == pytest.approx(done.trained.judged.force_mae, rel=1e-6)
    assert found["teacher"]["force_mae"] == pytest.approx(done.teacher.force_mae, rel=1e-6)
    assert found["apart"]["force_mae"] > 0


def test_several_data_sets_have_their_own_levels_and_codes(tmp_path: Path) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    shifted = []
    for one in read_frames("emt:CuAl", 4, seed=1):
        copy = one.copy()
        copy.calc = SinglePointCalculator(copy, energy=one.get_potential_energy() - 800.0, forces=one.get_forces())
        shifted.append(copy)
    write(tmp_path / "other.extxyz", shifted)
    recipe = settings(tmp_path, data=["emt:CuAl", str(tmp_path / "other.extxyz")], frames=4, weights=[1, 1], test=0.25)
    done = run_recipe(recipe, progress=False)
    saved = load_potential(done.student)
    assert saved.sizes.datasets == 2
    mean = saved.bias.mean(1)
    assert float(mean[0] - mean[1]) == pytest.approx(100.0, abs=5.0)
    taught = run_recipe(
        {**recipe, "teacher": done.student, "dataset": 1, "weights": [], "out": str(tmp_path / "taught")},
        progress=False,
    )
    assert taught.frames == (3, 0) and load_potential(taught.student).sizes.datasets == 1
    assert float(load_potential(taught.student).bias.mean()) < -90
    held = tmp_path / "taught" / "held-out.extxyz"
    assert read_frames(held)[0].info["dataset"] == 1
    judged = evaluate_folder(Path(taught.student), Path(done.student), held)
    assert judged.student.frames == 1 and judged.student.energy_mae < 5e3 and judged.teacher.energy_mae < 5e3
    assert judged.teacher.force_mae == pytest.approx(taught.teacher.force_mae, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: emt:CuAl\nstudent: {layer: 1}\nout: o", r'unknown key "layer" in student. Did you mean "layers"'),
        ("data: emt:CuAl\nstudent: {}\nschedule: cosine\nout: o", "leave out schedule, warmup"),
        ("data: emt:CuAl\nstudent: {}\nlr: 1e-3\nlr_end: 1e-2\nout: o", "is above lr"),
        ("data: emt:CuAl\nstudent: {}\ndynamics: {}\nout: o", "without a teacher there is no dynamics"),
        ("data: emt:CuAl\nstudent: {}\ndataset: 2\nout: o", "dataset: 2 is none of them"),
        ("data: emt:CuAl\nstudent: {}\ntest: 2\nout: o", "test"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(f"room: atoms\n{text}\n")
    with pytest.raises(ConfigError, match=said):
        read_atoms_recipe(tmp_path / "r.yaml")


def test_potentials_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = save_potential(build(Sizes(("Ag",), 1, 6, 4, 0, hidden=(6,)), 0), tmp_path / "silver")
    with pytest.raises(ConfigError, match="does not know Al, Cu"):
        run_recipe(settings(tmp_path, teacher=str(folder)), progress=False)
    said = CliRunner().invoke(
        app, ["evaluate", str(folder), "--against", str(folder), "--data", str(tmp_path / "none.extxyz")]
    )
    assert said.exit_code != 0 and "does not exist" in str(said.exception)


def test_the_recipes_that_ship_can_be_read() -> None:
    for path in sorted((Path(__file__).parents[2] / "recipes" / "atoms").glob("*.yaml")):
        assert read_atoms_recipe(path).student.layers >= 1
        assert len(path.read_text().splitlines()) <= 15
