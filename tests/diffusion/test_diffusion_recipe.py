"""What a recipe gives, that it goes on after a kill, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from killing import killed_at
from limbeck.diffusion import DDPM, Sizes, Translated, mixture
from limbeck.diffusion.folders import load_model, save_model
from limbeck.diffusion.judging import Judged, Row
from limbeck.diffusion.methods import METHODS, Job
from limbeck.diffusion.recipe import evaluate_folder, judge_of, read_diffusion_recipe, run_recipe, source_of
from limbeck.diffusion.sampling import make, sample_folder
from limbeck.errors import ConfigError, TrainingError

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "diffusion").glob("*.yaml"))
TINY = {"width": 8, "blocks": 1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained teacher of points in four classes, with weights that answer something."""
    network = Sizes(8, 1).build([2], 4, mixture("class_ring").data_std)
    with torch.no_grad():
        network.network.out.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    folder = save_model(network, tmp_path_factory.mktemp("teacher"), shape=[2], classes=list("0123"))
    return str(folder)


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    known = {
        "data": str(folder / "ring8"),
        "teacher": TINY | {"steps": 40},
        "method": "dmd",
        "updates": 8,
        "judge_count": 100,
    }
    known |= {"judge_count": 100, "judge_steps": [2, 3]}
    return {**known, "out": str(folder / "out"), **changes}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "out" / "student").model.state_dict()


def test_a_recipe_gives_a_student_that_makes_what_was_judged(tmp_path: Path) -> None:
    done = run_recipe(recipe(tmp_path), progress=False)
    out, rows = tmp_path / "out", {row.name: row for row in done.judged.rows}
    assert list(rows) == ["teacher, 2 steps", "teacher, 3 steps", "student before", "student"]
    assert [row.calls for row in rows.values()] == [3, 5, 1, 1]
    again = evaluate_folder(out / "student", out / "teacher", Path("ring8"), 100)
    assert again.rows[-1].values == rows["student"].values and again.floor == done.judged.floor
    assert rows["student"].values != rows["student before"].values
    assert Image.open(out / "samples.png").height > 4 * 32
    said = json.loads((out / "result.json").read_text())
    assert said["judged"]["rows"][-1]["values"]["jsd"] == rows["student"].values["jsd"]
    assert list(done.progress["training 1"]) == [2, 4, 6, 8]
    assert len(json.loads((out / "progress.json").read_text())["data"][0]["y"]) == 4
    assert len((out / "runs.jsonl").read_text().splitlines()) >= 8


def test_a_finished_run_says_so_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run_recipe(recipe(tmp_path), progress=False)
    known = run_recipe(recipe(tmp_path), progress=False)
    assert known.again and "nothing was trained now" in known.summary()
    assert known.judged.rows == done.judged.rows and known.seconds == done.seconds
    monkeypatch.chdir(tmp_path)  # the same places, said otherwise
    assert run_recipe(recipe(Path()), progress=False).again
    with pytest.raises(TrainingError):
        run_recipe(recipe(tmp_path, seed=1), progress=False)


def test_a_run_killed_in_both_trainings_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    long = {"teacher": TINY | {"steps": 150}, "updates": 25, "method": "dmd2"}
    whole, cut = recipe(tmp_path / "a", **long), recipe(tmp_path / "b", **long)
    done = run_recipe(whole, progress=False)
    out = tmp_path / "b" / "out"
    killed_at("teacher/checkpoints/step-*", out, run_recipe, cut)
    assert not (out / "teacher" / "model.json").exists()
    killed_at("checkpoints/step-*", out, run_recipe, cut)
    assert not (out / "result.json").exists()
    resumed = run_recipe(cut, progress=False)
    for name, one in weights(tmp_path / "a").items():
        assert torch.equal(one, weights(tmp_path / "b")[name]), name
    assert [row.values for row in resumed.judged.rows] == [row.values for row in done.judged.rows]
    assert resumed.progress == done.progress


@pytest.mark.parametrize("method", sorted({*METHODS} - {"scale-distillation"}))
def test_every_method_moves_its_student(method: str, teacher: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": "class-ring", "teacher": teacher, "method": method, "updates": 2}
    if method == "decoupled":
        changes["guidance"] = 2.0
    if method == "disback":
        changes["method"] = {"name": method, "steps": 4, "every": 2, "interval": 1}
    if method == "phased":
        changes["student"] = {"sigmas": [2.5, 0.5]}
    if method == "progressive":
        changes["method"] = {"name": method, "start": 4, "end": 2}
    done = run_recipe(recipe(tmp_path, **changes), progress=False)
    before, after = done.judged.rows[-2:]
    assert after.calls == {"slider": 35}.get(
        method, 2 if method in ("phased", "consistency", "rcm", "progressive") else 1
    )
    assert before.values["log_density"] != after.values["log_density"]
    assert done.trainable == (1.0 if method != "gdd-i" else pytest.approx(0.908, abs=0.1))
    kind = {"multi-student": "bundle", "slider": "teacher"}.get(method, "student")
    assert load_model(tmp_path / "out" / "student").kind == kind


OWN = {"scale-distillation", "gdd", "gdd-i", "consistency", "rcm", "progressive", "slider"}
"""They train networks as limbeck makes them."""


@pytest.mark.parametrize("method", sorted(set(METHODS) - OWN))
def test_a_teacher_of_another_schedule_is_asked_within_its_noise_levels(method: str, tmp_path: Path) -> None:
    network = Sizes(8, 1).build([2], 4).network
    with torch.no_grad():
        network.out.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    folder = save_model(Translated(network, DDPM(), "v"), tmp_path / "ddpm", shape=[2], classes=list("0123"))
    settings = recipe(tmp_path, data=str(tmp_path / "class-ring"), teacher=str(folder), updates=2)
    settings |= {} if method == "pg-sb" else {"guidance": 2.0}
    options = {"disback": {"steps": 2, "every": 1}, "dmd": {"pairs": 4}}.get(method, {})
    done = run_recipe(settings | {"method": {"name": method} | options}, progress=False)
    assert done.judged.rows[-1].values["jsd"] is not None
    levels = Job(load_model(folder).model, network, None, source_of(Path("ring8")), [2.0], {}, {"seed": 0}).levels()
    assert levels.sigma_min == pytest.approx(0.01, abs=1e-3) and levels.sigma_max == 80.0


def test_a_sampler_is_halved_after_its_guidance_was_learnt(tmp_path: Path) -> None:
    """Two calls for four; a teacher of guidance 0 forgets the classes, and its student never knew them."""
    found = {}
    for guidance in (None, 0.0):
        method = {"name": "progressive", "start": 4, "end": 2}
        changes = {
            "data": "class-ring",
            "teacher": TINY | {"steps": 300, "width": 32},
            "method": method,
            "updates": 150,
        }
        out = tmp_path / str(guidance)
        settings = recipe(tmp_path, **changes, guidance=guidance, judge_count=500) | {"out": str(out)}
        done = run_recipe(settings, progress=False)
        found[guidance] = done.judged.rows[-1].values["class_accuracy"], done.progress["training 1"]
        assert (out / "guided").exists() is (guidance is not None) and (out / "steps-2" / "runs.jsonl").exists()
    assert 0.1 < found[0.0][0] < 0.45 < found[None][0]
    assert list(found[None][1]) == [150]


def test_a_slider_is_learnt_on_a_teacher_and_carried_to_its_student(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"data": "class-ring", "teacher": TINY | {"steps": 400, "width": 32}, "updates": 4}
    student = run_recipe(recipe(tmp_path, **changes), progress=False).student
    changes |= {"teacher": str(tmp_path / "out" / "teacher"), "updates": 200, "lr": 5e-3, "judge_count": 400}
    found = {}
    for strength in (-1, 0, 1):
        method = {"name": "slider", "more": 1, "less": 3, "strength": strength, "to": student}
        settings = recipe(tmp_path, **changes) | {"method": method, "out": str(tmp_path / f"at {strength}")}
        made = sample_folder(Path(run_recipe(settings, progress=False).student), 400)
        found[strength] = made.made.x.mean(0)
        assert made.made.calls == 1
    assert torch.equal(found[0], sample_folder(Path(student), 400).made.x.mean(0))
    toward = mixture("class_ring").means[2:4].mean(0) - mixture("class_ring").means[6:8].mean(0)
    moved = {strength: float((x - found[0]) @ toward.float()) for strength, x in found.items()}
    assert moved[1] > 0.1 > -0.1 > moved[-1]


def test_a_smaller_student_first_learns_what_the_teacher_says(teacher: str, tmp_path: Path) -> None:
    changes = {"data": "class-ring", "teacher": teacher, "student": {"width": 4, "steps": 20}}
    done = run_recipe(recipe(tmp_path, **changes), progress=False)
    student, taught = load_model(Path(done.student)), load_model(teacher)
    assert student.params < taught.params and (tmp_path / "out" / "student-start" / "runs.jsonl").exists()


def test_a_flat_folder_of_pictures_and_a_unet(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for k in range(26):
        Image.fromarray(np.full((20, 20), 9 * k, np.uint8)).save(tmp_path / "pictures" / f"{k}.png")
    sizes = {"width": 8, "blocks": 1, "levels": 1, "steps": 2, "batch": 4}
    changes = {"data": str(tmp_path / "pictures"), "size": 8, "teacher": sizes, "updates": 1, "batch": 4}
    done = run_recipe(recipe(tmp_path, **changes, student={"sigmas": [2.0]}), progress=False)
    assert done.data == "pictures: 26 examples of [3, 8, 8], 1 classes, 26 labelled"
    assert done.judged.count == 26 and "principal components" in done.judged.summary()
    assert load_model(Path(done.student)).classes == ()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_short_and_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 15
    assert read_diffusion_recipe(path).method.name in METHODS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "rings8"}, r'does not exist. Did you mean "ring8"'),
        ({"method": "dmd3"}, r'no method is called "dmd3". Did you mean'),
        ({"method": {"name": "dmd2", "critc": "values"}}, r'dmd2 has no choice "critc". Did you mean "critic"'),
        ({"method": {"name": "disback", "storage": "zip"}}, r'"storage" of disback: .*full.*zip'),
        ({"method": "decoupled"}, "decoupled pushes by guidance: give guidance"),
        ({"guidance": 2}, "guidance 2 needs classes, and the data tells none"),
        ({"batch": 10**8}, "less than or equal to 65536"),
        ({"method": {"name": "rcm", "lam": -1.0}}, '"lam" of rcm.*greater than or equal to 0'),
        ({"method": "pg-sb"}, "pg-sb draws its guidance between low and high, for classes"),
        ({"data": "class-ring", "method": {"name": "pg-sb", "low": 3, "high": 2}}, "low must not be above high"),
        ({"data": "class-ring", "guidance": 2, "method": "pg-sb"}, "leave guidance out"),
        ({"method": {"name": "progressive", "start": 12}}, "halving does not lead from 12 steps to 1"),
        ({"data": "class-ring", "method": {"name": "slider", "more": 4}}, r"two classes, 0 to 3; got 0 and 4"),
        ({"data": "class-ring", "method": {"name": "slider", "to": "nowhere"}}, "nowhere"),
        ({"method": {"name": "slider", "strength": float("inf")}}, "finite"),
        ({"student": {"sigmas": [1, 2]}}, r"must fall and be positive, got \[1.0, 2.0\]"),
        ({"teacher": "nowhere"}, "nowhere"),
        ({"teacher": {"widht": 3}}, 'unknown key "widht" in teacher. Did you mean "width"'),
        ({"updates": 0}, '"updates" must be greater than 0'),
        ({"data": "class-ring", "method": {"name": "multi-student", "students": 9}}, "9 students cannot share 4"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run_recipe(recipe(tmp_path, **changes), progress=False)


def test_a_teacher_of_other_data_is_refused(teacher: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher of \[2\] and 4 classes, the data has \[2\] and 0"):
        run_recipe(recipe(tmp_path, teacher=teacher), progress=False)


def test_the_exact_teacher_reaches_the_floor_and_calls_are_counted() -> None:
    judge = judge_of(source_of(Path("ring8")), 2000)
    judged, made = judge.compare(mixture("ring8"), {"student": mixture("ring8")}, [4, 18])
    assert judged.best.name == "teacher, 18 steps" and [row.calls for row in judged.rows] == [7, 35, 35]
    assert judged.value(judged.best) < 1.5 * float(judged.floor["jsd"] or 0)  # 0.054 against 0.043; 4 steps 0.4
    assert judged.value(judged.rows[0]) > 2 * judged.value(judged.best)
    assert torch.equal(made["teacher, 18 steps"], made["student"])
    assert judge.quick(mixture("ring8"))["jsd"] == judged.value(judged.best)


def test_samplers_agree_on_calls_and_on_the_noise() -> None:
    law = mixture("class_ring")
    known = {name: make(law, [2], 300, steps=5, sampler=name, seed=3) for name in ("heun", "euler", "ddim")}
    assert [one.calls for one in known.values()] == [9, 5, 5]
    assert torch.equal(known["euler"].x, known["ddim"].x) and not torch.equal(known["euler"].x, known["heun"].x)
    strong = make(law, [2], 300, torch.zeros(300).long(), guidance=3.0, classes=4)
    plain = make(law, [2], 300, torch.zeros(300).long(), guidance=1.0, classes=4)
    assert strong.x.norm(dim=1).mean() > plain.x.norm(dim=1).mean() + 0.1  # guidance pushes out, here by 0.2


def test_the_summary_says_the_ratio_and_the_speed() -> None:
    rows = [
        Row("teacher, 8 steps", 15, 0.4, {"jsd": 0.5, "sliced_w2": 1.0, "modes": 8.0, "high_quality": 1.0}),
        Row("student", 1, 0.01, {"jsd": 0.6, "sliced_w2": 1.0, "modes": 7.0, "high_quality": None}),
    ]  # fmt: skip
    for row in rows:
        row.values["class_accuracy"] = None  # type: ignore[index]
    judged = Judged("jsd", rows, {"jsd": 0.1}, 100, 1, "exact law")
    first, heads, *_ = judged.summary().splitlines()
    assert first == "JSD 0.6: 1.2 times the teacher's best, 0.5 in 15 calls; 40 times as cheap"
    assert heads.split() == ["calls", "CPU", "ms", "JSD", "SW2", "modes"]
    assert max(map(len, judged.summary().splitlines())) <= 80
    assert judged.plot().data[1].y == (0.6,)


def test_samples_of_a_folder_are_of_the_class_asked_for_and_read_as_data(teacher: str, tmp_path: Path) -> None:
    made = sample_folder(Path(teacher), 6)
    assert made.labels is not None and made.labels.tolist() == [0, 1, 2, 3, 0, 1]
    one = sample_folder(Path(teacher), 6, chosen="2", steps=3, guidance=2.0)
    assert one.labels is not None and one.labels.tolist() == [2] * 6 and one.made.calls == 5
    one.save(tmp_path / "made.npz", tmp_path / "made.png")
    back = source_of(tmp_path / "made.npz", conditional=False)
    assert torch.equal(back.data.inputs, one.made.x) and back.data.labels.tolist() == [2] * 6  # type: ignore[union-attr]
    assert Image.open(tmp_path / "made.png").width == 56 + 4
