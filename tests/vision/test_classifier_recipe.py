import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_classes import points, sure
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import ConfigError
from limbeck.vision import (
    ClassifierRecipe,
    Network,
    load_network,
    read_classifier_recipe,
    read_data,
    run_recipe,
    save_data,
    save_network,
)
from limbeck.vision.recipe import prepare

RECIPES = sorted(
    path
    for path in (Path(__file__).parents[2] / "recipes" / "vision").glob("*.yaml")
    if "method:" in path.read_text() and "generations:" not in path.read_text()  # those are tested where they live
)


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    known = {"data": str(folder / "points.npz"), "teacher": {"hidden": [8], "steps": 30}, "student": {"hidden": [4]}}
    save_data(points(90), folder / "points.npz")
    return {**known, "steps": 20, "out": str(folder / "out"), **changes}


def test_a_recipe_gives_a_student_that_loads_and_is_judged_alike(tmp_path: Path) -> None:
    done = run_recipe(recipe(tmp_path), progress=False)
    saved, judged = load_network(done.student), done.distilled.judged
    held_out = read_data(tmp_path / "out" / "held-out.npz")
    right = float((saved.network(held_out.inputs).argmax(-1) == held_out.labels).double().mean())
    assert judged is not None and judged.student.accuracy == right and judged.examples == 45
    said = CliRunner().invoke(
        app,
        ["evaluate", done.student, "--against", str(tmp_path / "out" / "teacher-1"), "--data",
         str(tmp_path / "out" / "held-out.npz"), "--json"],
    )  # fmt: skip
    assert json.loads(said.stdout)["student"]["accuracy"] == right
    assert json.loads((tmp_path / "out" / "result.json").read_text())["judged"]["examples"] == 45
    assert run_recipe(recipe(tmp_path), progress=False).distilled.judged == judged


def test_a_teacher_of_answers_and_one_of_a_folder(tmp_path: Path) -> None:
    data = points(90)
    np.savez(tmp_path / "answers.npz", probabilities=sure(data.inputs).softmax(-1).numpy())
    made = Network(hidden=(5,))
    save_network(made.build([4], 3, 0), made, [4], data.classes, tmp_path / "folder")
    turned = tmp_path / "turned"
    save_network(made.build([4], 3, 0), made, [4], data.classes[::-1], turned)
    for k, teacher in enumerate([tmp_path / "answers.npz", tmp_path / "folder", turned]):
        done = run_recipe(recipe(tmp_path, teacher=str(teacher), out=str(tmp_path / f"{k}")), progress=False)
        assert done.distilled.judged is not None
        network = load_network(tmp_path / "folder").network if k else None
        held_out = read_data(tmp_path / f"{k}" / "held-out.npz")
        taught = network(held_out.inputs) if network else sure(held_out.inputs)
        favourite = taught.argmax(-1) if k < 2 else 2 - taught.argmax(-1)
        assert done.distilled.judged.teacher.accuracy == float((favourite == held_out.labels).double().mean())


def test_several_teachers_answer_together(tmp_path: Path) -> None:
    teachers = [{"hidden": [4], "steps": 10}, {"hidden": [6], "steps": 40}]
    done = run_recipe(recipe(tmp_path, teacher=teachers), progress=False)
    held_out = read_data(tmp_path / "out" / "held-out.npz")
    networks = [load_network(tmp_path / "out" / f"teacher-{k}").network for k in (1, 2)]
    mean = torch.stack([one(held_out.inputs).softmax(-1) for one in networks]).mean(0)
    right = float((mean.argmax(-1) == held_out.labels).double().mean())
    assert done.distilled.judged is not None and done.distilled.judged.teacher.accuracy == right


def test_a_student_that_is_there_goes_on_learning(tmp_path: Path) -> None:
    first = run_recipe(recipe(tmp_path, method="ce", teacher=None), progress=False)
    again = recipe(tmp_path, student=first.student, out=str(tmp_path / "again"), lr=1e-9)
    torch.testing.assert_close(
        load_network(run_recipe(again, progress=False).student).network.state_dict(),
        load_network(first.student).network.state_dict(), rtol=0, atol=1e-6,
    )  # fmt: skip


def test_few_labels_and_the_rest_without(tmp_path: Path) -> None:
    done = run_recipe(recipe(tmp_path, per_class=4, unlabelled=True), progress=False)
    assert done.data == "points: 45 examples of [4], 3 classes, 12 labelled"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_short_and_runs(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 15
    (tmp_path / path.name).write_text(path.read_text())
    changes = ["steps=20", "out=short"] + (["teacher.steps=20"] if "teacher: {" in path.read_text() else [])
    said = CliRunner().invoke(app, ["distill", str(tmp_path / path.name), *changes, "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["judged"]["examples"] > 500
    assert (tmp_path / "short" / "student" / "network.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": None}, "needs a teacher"),
        ({"test": 1.5}, "share from 0 to 1"),
        ({"teacher": "absent/"}, "not a folder of a network of vision"),
        ({"stduent": {}}, 'Did you mean "student"'),
        ({"steps": 0}, "greater than 0"),
        ({"room": "lm"}, "unknown room"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_recipe(recipe(tmp_path, **changes), progress=False)


def test_answers_that_do_not_fit(tmp_path: Path) -> None:
    for name, content, words in (
        ("few", {"logits": np.zeros((3, 3))}, "answers 3 examples, the data has 90"),
        ("other", {"values": np.zeros((90, 3))}, "must hold logits or probabilities"),
    ):
        np.savez(tmp_path / f"{name}.npz", **content)
        with pytest.raises(ConfigError, match=words):
            run_recipe(recipe(tmp_path, teacher=str(tmp_path / f"{name}.npz")), progress=False)
    made = Network(hidden=(2,))
    save_network(made.build([5], 3, 0), made, [5], "012", tmp_path / "wide")
    for role in ("teacher", "student"):
        with pytest.raises(ConfigError, match=r"reads inputs \[5\]"):
            run_recipe(recipe(tmp_path, **{role: str(tmp_path / "wide")}), progress=False)


def test_an_unknown_room_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("room: visions\n")
    said = CliRunner().invoke(app, ["distill", str(tmp_path / "recipe.yaml")])
    assert said.exit_code != 0 and 'no room is called "visions"' in str(said.exception)


def test_mistakes_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("room: vision\ndata: digits\nstudent: {hidden: [4]}\nmethod: dkdd\nout: out\n")
    with pytest.raises(ConfigError, match=r"line 4: no method is called .dkdd.*Did you mean .dkd."):
        read_classifier_recipe(path)


def test_other_data_to_judge_by(tmp_path: Path) -> None:
    test = save_data(points(30, seed=5), tmp_path / "test.npz")
    done = run_recipe(recipe(tmp_path, test=str(test), per_class=4, unlabelled=True), progress=False)
    assert done.data == "points: 90 examples of [4], 3 classes, 12 labelled"
    assert done.distilled.judged is not None and done.distilled.judged.examples == 30
    few = [read_places(tmp_path, seed) for seed in (0, 1)]
    assert few[0] != few[1] and few[0] == read_places(tmp_path, 0) and len(few[0]) == 12
    with pytest.raises(ConfigError, match="most test examples are learnt from"):
        run_recipe(recipe(tmp_path, test=str(tmp_path / "points.npz"), out=str(tmp_path / "same")), progress=False)


def read_places(folder: Path, seed: int) -> list[int]:
    """Places of the examples that a recipe with other data to judge by learns from."""
    settings = recipe(folder, test=folder / "test.npz", per_class=4, seed=seed, teacher=None, method="ce")
    return prepare(ClassifierRecipe(**settings)).learn.places.tolist()


def test_evaluation_draws_its_bins_and_refuses_what_is_not_about_classifiers(tmp_path: Path) -> None:
    done, page = run_recipe(recipe(tmp_path), progress=False), tmp_path / "page.html"
    words = ["evaluate", done.student, "--against", str(tmp_path / "out" / "teacher-1"), "--data",
             str(tmp_path / "out" / "held-out.npz")]  # fmt: skip
    assert CliRunner().invoke(app, [*words, "--plot", str(page)]).exit_code == 0 and "calibrated" in page.read_text()
    said = CliRunner().invoke(app, [*words, "--baseline", done.student])
    assert "are about language models" in str(said.exception)
